import { CHALLENGES, HOSTNAME_CHARS_MAX } from '@roost/core'
import { z } from 'zod'

/**
 * Names of people's own and their certificates, as the Machines API has them; what Roost adds stands at the end of each. Times are
 * RFC 3339. `source` of a certificate is `fly` where it was ordered, as clients of that API know it.
 */

const challenge = z.enum(CHALLENGES as [(typeof CHALLENGES)[number], ...typeof CHALLENGES])

export const hostnameParam = z
  .string()
  .min(1)
  .max(HOSTNAME_CHARS_MAX + 10)

export const addAcmeBody = z.object({
  hostname: hostnameParam,
  /** Roost's: only this way, such as where port 80 is closed. */
  challenge: challenge.nullish(),
})

/** All that HAProxy takes in one piece. */
const CHAIN_CHARS_MAX = 11_000
const KEY_CHARS_MAX = 4_000

export const addCustomBody = z.object({
  hostname: hostnameParam,
  fullchain: z
    .string()
    .max(CHAIN_CHARS_MAX, 'a chain may have 11,000 characters: leave out the root'),
  private_key: z.string().max(KEY_CHARS_MAX, 'a private key may have 4,000 characters'),
})

export const certificatesQuery = z.looseObject({
  limit: z.coerce.number().int().min(1).max(500).default(50),
  cursor: z.string().optional(),
  filter: z.string().max(HOSTNAME_CHARS_MAX).optional(),
})

export const certificateStatus = z.enum([
  'active',
  'pending_validation',
  'pending_ownership',
  'expired',
])

export const certificateSummary = z.object({
  hostname: z.string(),
  status: certificateStatus,
  acme_dns_configured: z.boolean(),
  acme_alpn_configured: z.boolean(),
  acme_http_configured: z.boolean(),
  ownership_txt_configured: z.boolean(),
  configured: z.boolean(),
  acme_requested: z.boolean(),
  has_custom_certificate: z.boolean(),
  has_fly_certificate: z.boolean(),
  created_at: z.string(),
  updated_at: z.string(),
  /** Of what is shown to clients; null: nothing is. */
  expires_at: z.string().nullable(),
})
export type CertificateSummary = z.infer<typeof certificateSummary>

export const certificatesReply = z.object({
  certificates: z.array(certificateSummary),
  next_cursor: z.string().optional(),
  total_count: z.number(),
})

const detail = z.object({
  source: z.enum(['fly', 'custom']),
  status: certificateStatus,
  created_at: z.string(),
  expires_at: z.string(),
  issuer: z.string(),
  issued: z.array(
    z.object({
      type: z.enum(['ecdsa', 'rsa']),
      expires_at: z.string(),
      certificate_authority: z.string(),
    }),
  ),
  /** From then on it is ordered anew; null: it was imported. */
  renews_at: z.string().nullable(),
  /** SHA-256. */
  fingerprint: z.string(),
})

const dnsFinding = z.object({
  type: z.enum(['CNAME', 'A', 'AAAA', 'TXT']),
  name: z.string(),
  wanted: z.array(z.string()),
  found: z.array(z.string()),
  state: z.enum(['right', 'missing', 'wrong', 'unknown']),
  needed: z.boolean(),
  why: z.string(),
})

export const certificateReply = z.object({
  hostname: z.string(),
  configured: z.boolean(),
  acme_requested: z.boolean(),
  status: certificateStatus,
  certificates: z.array(detail),
  validation: z.object({
    dns_configured: z.boolean(),
    alpn_configured: z.boolean(),
    http_configured: z.boolean(),
    ownership_txt_configured: z.boolean(),
  }),
  dns_requirements: z.object({
    a: z.array(z.string()),
    aaaa: z.array(z.string()),
    cname: z.string(),
    acme_challenge: z.object({ name: z.string(), target: z.string() }),
    ownership: z.object({ name: z.string(), app_value: z.string(), org_value: z.string() }),
  }),
  /** What DNS says now; absent where it was not asked. */
  dns_records: z
    .object({
      a: z.array(z.string()),
      aaaa: z.array(z.string()),
      cname: z.array(z.string()),
      resolved_addresses: z.array(z.string()),
      soa: z.string().nullable(),
      acme_challenge_cname: z.string().nullable(),
      ownership_txt: z.string().nullable(),
    })
    .optional(),
  validation_errors: z.array(
    z.object({
      code: z.string().nullable(),
      message: z.string(),
      remediation: z.string(),
      timestamp: z.string(),
    }),
  ),
  /** Only by this one; null: by whichever works. */
  challenge: challenge.nullable(),
  /** The authority that certificates are ordered from; null: there is none. */
  acme_directory: z.string().nullable(),
  /** What of the name's DNS is right, missing or wrong; empty where it was not asked. */
  dns_findings: z.array(dnsFinding),
  /** The last order, if it failed. */
  failure: z
    .object({
      at: z.string(),
      host: z.string(),
      times: z.number(),
      challenge: challenge.nullable(),
      why: z.string(),
      next_at: z.string(),
    })
    .nullable(),
})
export type CertificateReply = z.infer<typeof certificateReply>
