// The workers of a training: one leads each network, and where the computer has more cores, others help with its batches.

const MOST_WORKERS = 4;
const CATCH_UP = 100; // updates

/**
 * Start the workers, from the URL of worker.js. `receive(place, message)` gets the messages about the network at a place,
 * but one "paused" without an update for all of them. `fail(message)` gets an error. Return functions: send a message to all; end them.
 */
function startTeam(url, { wasm, networks, data, seed }, cores, receive, fail) {
  const share = Math.min(cores, MOST_WORKERS) / networks.length, size = share >= 4 ? 4 : share >= 2 ? 2 : 1;
  const workers = [], paused = new Map();
  const launch = (message, ports) => {
    const worker = new Worker(url);
    worker.onerror = ({ message }) => fail(message);
    worker.postMessage(message, ports);
    workers.push(worker);
    return worker;
  };

  /** When all have paused, let networks that are a little behind train up to the same update. */
  const settle = () => {
    const all = [...paused.values()], last = Math.max(...all.map(({ update, diverged }) => (diverged ? 0 : update)));
    if (all.length < networks.length) return;
    const behind = [...paused].filter(([, { update, diverged }]) => !diverged && update < last && update >= last - CATCH_UP);
    if (!behind.length) return receive(0, { type: "paused" });
    for (const [place] of behind) {
      paused.delete(place);
      leads[place].postMessage({ type: "run", until: last });
    }
  };
  const leads = networks.map((network, place) => {
    const channels = Array.from({ length: size - 1 }, () => new MessageChannel()), ports = channels.map(({ port1 }) => port1);
    for (const { port2 } of channels) launch({ type: "help", wasm, port: port2 }, [port2]);
    const lead = launch({ type: "start", wasm, network, data, seed, ports }, ports);
    lead.onmessage = ({ data: message }) => {
      if (message.type !== "paused") return receive(place, message);
      paused.set(place, message);
      settle();
    };
    return lead;
  });
  const send = (message) => {
    if (message.type === "run") paused.clear();
    leads.forEach((lead) => lead.postMessage(message));
  };
  return { send, end: () => workers.forEach((worker) => worker.terminate()) };
}
