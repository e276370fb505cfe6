import { type RouteName, type RouteSpec, routes } from '@roost/api'
import { PlatformError } from '@roost/base'
import { type AppName, decide, type Instant } from '@roost/core'
import type { FastifyRequest } from 'fastify'
import type { z } from 'zod'
import type { TokenEnd } from '../access/tokens.ts'
import type { Caller, Handlers } from './handler.ts'

/** A call as it came in, before anything of it was looked at. */
export interface RawCall {
  readonly params: unknown
  readonly query: unknown
  readonly body: unknown
  readonly headers: FastifyRequest['headers']
  readonly signal: AbortSignal
  readonly caller: Caller | null
  /** How the token that was sent ended; null: it is not known, or there was none. */
  readonly ended?: TokenEnd | null
}

/** The one way to a handler: first whether the caller may, then whether the request makes sense, then the handler. */
export async function invoke(
  handlers: Handlers,
  name: RouteName,
  raw: RawCall,
  now: Instant,
): Promise<unknown> {
  const spec: RouteSpec = routes[name]
  refuseUnlessAllowed(spec, raw, now)
  const params = checkParams(spec, raw.params)
  const query = check(spec.query, raw.query, 'query')
  const body = spec.body === 'stream' ? streamOf(raw.body) : check(spec.body, raw.body, 'body')
  const { headers, signal, caller } = raw
  // The table's types hold for each name; for a name that is only known here they can't be written down.
  const handler = handlers[name] as (call: unknown) => Promise<unknown>
  return handler({ params, query, body, caller, headers, signal })
}

function refuseUnlessAllowed(spec: RouteSpec, raw: RawCall, now: Instant): void {
  if (spec.action === 'open') return
  if (raw.caller === null)
    throw new PlatformError(
      'unauthorized',
      raw.headers.authorization === undefined
        ? 'this needs a token: send it as "Authorization: Bearer <token>"'
        : whyUnknown(raw.ended ?? null, now),
    )
  const app = (raw.params as { app?: string } | undefined)?.app
  const decision = decide(
    raw.caller.policy,
    { action: spec.action, app: (app as AppName | undefined) ?? null },
    now,
  )
  if (decision.kind === 'denied') throw new PlatformError('forbidden', decision.why)
}

function whyUnknown(end: TokenEnd | null, now: Instant): string {
  if (end === null) return 'this token is not known here'
  const at = new Date(end.at).toISOString()
  return end.how === 'revoked'
    ? `this token was revoked at ${at}`
    : `this token expired at ${at}; by this server's clock it is ${new Date(now).toISOString()}`
}

/** A name that can't exist doesn't: that is no other answer than for one that could. */
function checkParams(spec: RouteSpec, value: unknown): unknown {
  if (spec.params === undefined) return {}
  const parsed = spec.params.safeParse(value)
  if (parsed.success) return parsed.data
  const field = String(parsed.error.issues[0]?.path[0] ?? '')
  const given = (value as Record<string, unknown>)[field]
  const text =
    field === 'app'
      ? 'app not found'
      : field === 'id'
        ? 'machine not found'
        : `${field} ${given} not found`
  throw new PlatformError('not_found', text)
}

function check(schema: z.ZodType | undefined, value: unknown, what: string): unknown {
  if (schema === undefined) return undefined
  // No body at all is an empty one, so that the message names the field that is missing.
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const texts = parsed.error.issues
    .slice(0, 3)
    .map((issue) => `${issue.path.map(String).join('.') || what}: ${issue.message}`)
  throw new PlatformError('invalid', texts.join('; '))
}

function streamOf(body: unknown): unknown {
  if (typeof body === 'object' && body !== null && Symbol.asyncIterator in body) return body
  throw new PlatformError('invalid', 'body: send it as application/gzip')
}
