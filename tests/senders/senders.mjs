// Signs and verifies requests with senders' own libraries. It reads an array of jobs from stdin and writes the array of their
// results to stdout: {"do": "sign", "sender", "secret", "url", "body"} gives the headers as an object, and the same with
// "do": "verify" and "headers" gives true or false. A library that only verifies has no "sign".
import { createRequire } from "node:module";

// These two have parts that only CommonJS resolves.
const require = createRequire(import.meta.url);
// Some libraries log to stdout, where the results are.
for (const name of ["log", "info", "debug"]) console[name] = console.error;

/** What threw or rejected is not valid. */
const succeeds = async (verification) => {
  try {
    await verification();
    return true;
  } catch {
    return false;
  }
};

const webhookHeaders = async (Webhook, prefix, secret, body) => {
  const [id, time] = ["msg_2invented0001", new Date()];
  return {
    [`${prefix}-id`]: id,
    [`${prefix}-timestamp`]: String(Math.floor(time.getTime() / 1000)),
    [`${prefix}-signature`]: new Webhook(secret).sign(id, time, body),
  };
};

const hubspot = (version) => ({
  sign: async ({ secret, url, body }) => {
    const { Signature } = require("@hubspot/api-client");
    const timestamp = Date.now();
    const signature = Signature.getSignature("POST", version, { clientSecret: secret, url, requestBody: body, timestamp });
    return version === "v3"
      ? { "x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": String(timestamp) }
      : { "x-hubspot-signature": signature, "x-hubspot-signature-version": version };
  },
});

const senders = {
  stripe: {
    sign: async ({ secret, body }) => {
      const { default: Stripe } = await import("stripe");
      return { "stripe-signature": new Stripe("sk_test_1").webhooks.generateTestHeaderString({ payload: body, secret }) };
    },
  },
  svix: {
    sign: async ({ secret, body }) => webhookHeaders((await import("svix")).Webhook, "svix", secret, body),
  },
  "standard-webhooks": {
    sign: async ({ secret, body }) => webhookHeaders((await import("standardwebhooks")).Webhook, "webhook", secret, body),
  },
  github: {
    sign: async ({ secret, body }) => {
      const { sign } = await import("@octokit/webhooks-methods");
      return { "x-hub-signature-256": await sign(secret, body) };
    },
  },
  "hubspot-v1": hubspot("v1"),
  "hubspot-v2": hubspot("v2"),
  "hubspot-v3": hubspot("v3"),
  workos: {
    sign: async ({ secret, body }) => {
      const { WorkOS } = await import("@workos-inc/node");
      const timestamp = Date.now();
      const signature = await new WorkOS("sk_test_1").webhooks.computeSignature(timestamp, JSON.parse(body), secret);
      return { "workos-signature": `t=${timestamp}, v1=${signature}` };
    },
  },
  clerk: {
    verify: async ({ secret, url, body, headers }) => {
      const { verifyWebhook } = await import("@clerk/backend/webhooks");
      return succeeds(() => verifyWebhook(new Request(url, { method: "POST", headers, body }), { signingSecret: secret }));
    },
  },
  shopify: {
    verify: async ({ secret, url, body, headers }) => {
      await import("@shopify/shopify-api/adapters/web-api");
      const { ApiVersion, shopifyApi } = await import("@shopify/shopify-api");
      const shopify = shopifyApi({
        apiKey: "invented", apiSecretKey: secret, hostName: "relay.example", isEmbeddedApp: false,
        apiVersion: Object.values(ApiVersion)[0], logger: { log: () => {} },
      });
      const rawRequest = new Request(url, { method: "POST", headers, body });
      return (await shopify.webhooks.validate({ rawBody: body, rawRequest })).valid;
    },
  },
  paddle: {
    verify: async ({ secret, body, headers }) => {
      const { Paddle } = await import("@paddle/paddle-node-sdk");
      return succeeds(() => new Paddle("invented").webhooks.unmarshal(body, secret, headers["paddle-signature"]));
    },
  },
  webflow: {
    verify: async ({ secret, body, headers }) => {
      const { WebflowClient } = require("webflow-api");
      return new WebflowClient({ accessToken: "invented" }).webhooks.verifySignature({ headers, body, secret });
    },
  },
};

const jobs = JSON.parse(await new Response(process.stdin).text());
const results = [];
for (const job of jobs) results.push(await senders[job.sender][job.do](job));
process.stdout.write(JSON.stringify(results));
