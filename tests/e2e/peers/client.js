// A proxyless gRPC client that follows xDS, as client.py is one in Python.
//
// Usage: NODE_PATH=…/node_modules GRPC_XDS_BOOTSTRAP=bootstrap.json node client.js xds:///HOST:PORT
//
// For each line "ask N" on standard input it makes N calls and prints one line of JSON: who answered how often and
// what failed.
"use strict";

const grpc = require("@grpc/grpc-js");
const readline = require("node:readline");

require("@grpc/grpc-js-xds").register();

// How long one call may take, the wait for a connection among it.
const PATIENCE = 20_000;

const same = (bytes) => bytes;

function who(client) {
  return new Promise((done) => {
    const metadata = new grpc.Metadata({ waitForReady: true });
    const options = { deadline: Date.now() + PATIENCE };
    const method = "/crossfade.test.Backend/Who";
    const told = (error, answer) => done(error ? { error: `${error.code}: ${error.details}` } : { side: String(answer) });
    client.makeUnaryRequest(method, same, same, Buffer.alloc(0), metadata, options, told);
  });
}

async function ask(client, count) {
  const report = { sides: {}, failures: 0, errors: [] };
  for (let n = 0; n < count; n += 1) {
    const { side, error } = await who(client);
    if (error) {
      report.failures += 1;
      if (report.errors.length < 5) report.errors.push(error);
    } else {
      report.sides[side] = (report.sides[side] ?? 0) + 1;
    }
  }
  return report;
}

async function main() {
  const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [verb, count] = line.split(" ");
    if (verb !== "ask") throw new Error(line);
    console.log(JSON.stringify(await ask(client, Number(count))));
  }
  client.close();
}

main();
