import type { RegistryBearer } from '../registry/registry-scope.ts'
import { grantedAccess, parseScopes } from '../registry/registry-scope.ts'
import type { RegistryTokens } from '../registry/registry-tokens.ts'

export interface RegistryTokenDeps {
  readonly tokens: RegistryTokens
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
 * and, as password, a Roost token or a registry token of ours that names the same repositories. Null: answer 401 with
 * `WWW-Authenticate: Basic realm="roost"`.
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
  const { token, expiresAt } = await deps.tokens.issue({
    subject: found.name,
    access,
    ttlMs: TTL_MS,
  })
  return {
    token,
    access_token: token,
    expires_in: TTL_MS / 1000,
    issued_at: new Date(expiresAt - TTL_MS).toISOString(),
  }
}

async function bearerOf(
  deps: RegistryTokenDeps,
  password: string,
): Promise<{ name: string; bearer: RegistryBearer } | null> {
  if (password.split('.').length === 3) {
    const own = await deps.tokens.verify(password)
    if (own !== null) return { name: own.subject, bearer: { kind: 'granted', access: own.access } }
  }
  const person = await deps.authenticate(password)
  if (person === null) return null
  return {
    name: person.name,
    bearer: { kind: 'token', may: (action, app) => person.may(action, app) },
  }
}

function passwordOf(header: string | undefined): string | null {
  const encoded = /^Basic ([A-Za-z0-9+/=]{1,20000})$/i.exec(header ?? '')?.[1]
  if (encoded === undefined) return null
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon < 0 || colon === text.length - 1 ? null : text.slice(colon + 1)
}
