import { TOKEN_KINDS } from '@roost/core'
import { z } from 'zod'
import { appName } from './machines.ts'

/** Tokens: who may do what for how long. Times are RFC 3339. */

export const tokenKind = z.enum(TOKEN_KINDS)

const YEARS_10_S = 10 * 365 * 86_400

export const createTokenBody = z.object({
  kind: tokenKind,
  /** Of `deploy` always; of `readonly`: absent for all apps. */
  app: appName.nullish(),
  /** For people. Default: the kind, and the app if it is for one. */
  name: z.string().trim().min(1).max(100).optional(),
  /** Seconds; null: it never ends. Absent: ninety days, or less when the token with which it is made ends before. */
  expires_in: z.int().min(60).max(YEARS_10_S).nullish(),
})

export const tokenReply = z.object({
  id: z.string(),
  kind: tokenKind,
  name: z.string(),
  /** null: every app. */
  apps: z.array(z.string()).nullable(),
  state: z.enum(['active', 'expired', 'revoked']),
  created_at: z.string(),
  /** Name of the token with which it was made; null: the server made it, or that one is gone. */
  created_by: z.string().nullable(),
  parent: z.string().nullable(),
  expires_at: z.string().nullable(),
  /** To the minute. */
  last_used_at: z.string().nullable(),
  revoked_at: z.string().nullable(),
})
export type TokenReply = z.infer<typeof tokenReply>

/** The only time that the token itself is shown. */
export const newTokenReply = tokenReply.extend({ token: z.string() })

export const revokedReply = z.object({
  /** The token that was named, and those that were made with it. Those that had been revoked before are not among them. */
  revoked: z.array(tokenReply),
})
