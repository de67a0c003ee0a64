// Random numbers that are the same in every browser: without Math.log and Math.cos, whose last bits differ.

/** Return a function that draws uniform numbers from [0, 1); a seed determines them (mulberry32). */
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(seed ^ (seed >>> 15), seed | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Return a function that draws from N(0, 1), approximately: the sum of 12 uniform numbers has a variance of 1. */
function normal(random) {
  return () => {
    let sum = -6; // the sum's mean is 6
    for (let i = 0; i < 12; i++) sum += random();
    return sum;
  };
}

/** Shuffle an array in place (Fisher and Yates). */
function shuffle(array, random) {
  for (let last = array.length - 1; last > 0; last--) {
    const place = Math.floor(random() * (last + 1));
    [array[last], array[place]] = [array[place], array[last]];
  }
}
