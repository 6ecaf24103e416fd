// Sends one Identify call through Segment's own SDK: `node identify.mjs HOST WRITE_KEY CUSTOMER`, the last one as JSON.
// Exits with 1 and says why if the SDK reports a failure of any kind.
import { Analytics } from "@segment/analytics-node";

const [host, writeKey, customer] = process.argv.slice(2);
const analytics = new Analytics({ host, writeKey, maxRetries: 0 });

let failure;
analytics.on("error", (error) => (failure = error));
analytics.identify(JSON.parse(customer), (error) => (failure ??= error));
await analytics.closeAndFlush({ timeout: 10_000 });

if (failure) {
  console.error("the SDK reports", failure);
  process.exitCode = 1;
}
