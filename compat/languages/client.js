// Drives @ovhcloud/node-ovh: node client.js HOST PORT APPLICATION_KEY APPLICATION_SECRET CONSUMER_KEY. For each line
// "METHOD PATH [JSON]" of its input it makes a call, and writes a line of JSON with "status" and "body".
'use strict';

const [host, port, appKey, appSecret, consumerKey] = process.argv.slice(2);

// What node-ovh signs has no port, whatever port it connects to. So it takes the port of the test for that of https.
require('https').globalAgent.defaultPort = Number(port);

const client = require('@ovhcloud/node-ovh')({ host, port: Number(port), basePath: '/1.0', appKey, appSecret, consumerKey });

// When node-ovh cannot fetch the time, it does not say why: here it is always the API's 503.
const statusOf = (error) => (error === '[OVH] Unable to fetch OVH API time' ? 503 : error);

const call = (line) => {
  const [, method, path, data] = line.match(/^(\S+) (\S+) ?(.*)$/);
  return new Promise((resolve) => client.request(method, path, data ? JSON.parse(data) : {}, (error, result) => resolve(
    error ? { status: statusOf(error), body: String(result) } : { status: 200, body: JSON.stringify(result) })));
};

(async () => {
  for await (const line of require('readline').createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await call(line)));
  }
})();
