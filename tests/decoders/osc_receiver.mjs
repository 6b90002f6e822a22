// Prints what node-osc reads on a UDP port, one JSON array a message: address and arguments.
//     node osc_receiver.mjs NODE_MODULES PORT
import { createRequire } from "node:module";

const [modules, port] = process.argv.slice(2);
const { Server } = createRequire(`${modules}/`)("node-osc");
const server = new Server(Number(port), "127.0.0.1", () => console.log('["listening"]'));
const tell = (message) => console.log(JSON.stringify(message));
server.on("message", tell);
server.on("bundle", (bundle) => bundle.elements.forEach(tell));
