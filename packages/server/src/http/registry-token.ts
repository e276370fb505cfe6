import type { Clock } from '@roost/base'
import type { RegistryBearer } from '../registry/registry-scope.ts'
import { grantedAccess, parseScopes } from '../registry/registry-scope.ts'
import type { RegistryTokens } from '../registry/registry-tokens.ts'

export interface RegistryTokenDeps {
  readonly tokens: RegistryTokens
  readonly clock: Clock
  /** Who a Roost token belongs to; null when it is unknown, revoked or expired. */
  authenticate(token: string): Promise<{
    readonly name: string
    readonly may: Extract<RegistryBearer, { kind: 'token' }>['may']
  } | null>
}

export interface RegistryTokenReply {
  readonly token: string
  readonly access_token: string
  readonly expires_in: number
  readonly issued_at: string
}

const TTL_MS = 300_000

/**
 * `GET /api/v1/registry/token`, the token service of the image store (`docker login`). Basic authentication with any user name
 * and, as password, a Roost token or a registry token of ours that names the same repositories: what is given for that one
 * ends with it at the latest, or it would renew itself for ever. Null: answer 401 with `WWW-Authenticate: Basic realm="roost"`.
 */
export async function registryToken(
  deps: RegistryTokenDeps,
  request: {
    readonly authorization: string | undefined
    readonly scope: string | readonly string[] | undefined
  },
): Promise<RegistryTokenReply | null> {
  const password = passwordOf(request.authorization)
  if (password === null) return null
  const found = await bearerOf(deps, password)
  if (found === null) return null
  const access = grantedAccess(parseScopes(request.scope), found.bearer)
  const ttlMs = Math.min(TTL_MS, found.expiresAt - deps.clock.now())
  const { token, expiresAt } = await deps.tokens.issue({ subject: found.name, access, ttlMs })
  return {
    token,
    access_token: token,
    expires_in: Math.floor(ttlMs / 1000),
    issued_at: new Date(expiresAt - ttlMs).toISOString(),
  }
}

async function bearerOf(
  deps: RegistryTokenDeps,
  password: string,
): Promise<{ name: string; bearer: RegistryBearer; expiresAt: number } | null> {
  if (password.split('.').length === 3) {
    const own = await deps.tokens.verify(password)
    if (own !== null) {
      const { subject: name, access, expiresAt } = own
      return { name, bearer: { kind: 'granted', access }, expiresAt }
    }
  }
  const person = await deps.authenticate(password)
  if (person === null) return null
  return {
    name: person.name,
    bearer: { kind: 'token', may: (action, app) => person.may(action, app) },
    expiresAt: Number.POSITIVE_INFINITY,
  }
}

function passwordOf(header: string | undefined): string | null {
  const encoded = /^Basic ([A-Za-z0-9+/=]{1,20000})$/i.exec(header ?? '')?.[1]
  if (encoded === undefined) return null
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon < 0 || colon === text.length - 1 ? null : text.slice(colon + 1)
}
