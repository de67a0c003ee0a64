// Random numbers, for the page and for the worker. The same seed gives the same numbers in every browser: Math.log and
// Math.cos may differ in the last bit from one browser to another, +, *, / and Math.sqrt may not.

/** Return a function that draws uniform numbers from [0, 1); a seed determines them (mulberry32). */
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(seed ^ (seed >>> 15), seed | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Return a function that draws from N(0, 1), two numbers at a time (Marsaglia's polar method). */
function normal(random) {
  let spare = null;
  return () => {
    if (spare !== null) {
      const drawn = spare;
      spare = null;
      return drawn;
    }
    let x, y, squares;
    do {
      [x, y] = [2 * random() - 1, 2 * random() - 1];
      squares = x * x + y * y;
    } while (squares >= 1 || squares === 0);
    const scale = Math.sqrt((-2 * logarithm(squares)) / squares);
    spare = y * scale;
    return x * scale;
  };
}

/** Return log(x) for 0 < x < 1, to 15 digits: log(m / 2ⁿ) = 2 artanh((m − 1) / (m + 1)) − n log 2, m in [0.75, 1.5). */
function logarithm(x) {
  let halvings = 0;
  for (; x < 0.75; x *= 2) halvings++;
  const ratio = (x - 1) / (x + 1), square = ratio * ratio;
  let sum = 0;
  for (let n = 25; n > 0; n -= 2) sum = sum * square + 1 / n;
  return 2 * ratio * sum - halvings * 0.6931471805599453;
}

/** Shuffle an array in place (Fisher and Yates). */
function shuffle(array, random) {
  for (let last = array.length - 1; last > 0; last--) {
    const place = Math.floor(random() * (last + 1));
    [array[last], array[place]] = [array[place], array[last]];
  }
}
