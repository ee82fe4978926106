// Reads requests, a line of JSON each, and says of each whether a library accepts it.
import { createInterface } from 'node:readline'
import { Webhook as StandardWebhook } from 'standardwebhooks'
import { Webhook as SvixWebhook } from 'svix'
import Stripe from 'stripe'
import { Webhooks } from '@octokit/webhooks'
import Razorpay from 'razorpay'

const stripe = new Stripe('sk_test_unused')

const libraries = {
  standardwebhooks: ({ secret, headers, body }) => new StandardWebhook(secret).verify(body, headers),
  svix: ({ secret, headers, body }) => new SvixWebhook(secret).verify(body, headers),
  stripe: ({ secret, headers, body }) => stripe.webhooks.constructEvent(body, headers['stripe-signature'], secret),
  octokit: async ({ secret, headers, body }) => {
    if (!(await new Webhooks({ secret }).verify(body, headers['x-hub-signature-256']))) throw new Error('not verified')
  },
  razorpay: ({ secret, headers, body }) => {
    if (!Razorpay.validateWebhookSignature(body, headers['x-razorpay-signature'], secret)) throw new Error('not verified')
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  request.body = Buffer.from(request.body, 'base64').toString('utf8')
  let error = ''
  try {
    await libraries[request.library](request)
  } catch (e) {
    error = `${e?.name}: ${e?.message}`.split('\n')[0]
  }
  process.stdout.write(JSON.stringify({ ok: error === '', error }) + '\n')
}
