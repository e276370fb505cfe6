import {
  ERRORS,
  NOT_OFFERED,
  type RouteName,
  type RouteSpec,
  routes,
  SIGNS_HEADER,
  VERSION_HEADER,
  versionDifference,
} from '@roost/api'
import {
  acceptSocket,
  createHttpListener,
  describeError,
  type HttpListener,
  type ListenerTls,
  type Logger,
  type MessageSocket,
  PlatformError,
  sendLines,
  wantsSocket,
} from '@roost/base'
import { createTokenUse } from '../access/token-use.ts'
import { createTokenWatch, type Hold, type TokenWatch } from '../access/token-watch.ts'
import { authenticate, endOf, tokensOf } from '../access/tokens.ts'
import type { Deps } from '../deps.ts'
import type { Handlers } from './handler.ts'
import { invoke } from './invoke.ts'

const BASIC = 'Basic realm="roost"'
const BEARER = 'Bearer realm="roost"'
/** Of lines: a quiet app says nothing for hours. */
const SIGN_MS = 15_000

/** The HTTP API for people and scripts: every route of the table, and nothing else. */
export function createApiListener(
  deps: Pick<Deps, 'store' | 'clock' | 'installation'> & {
    readonly log: Logger
    /** Default: one of its own. */
    readonly tokens?: TokenWatch
  },
  handlers: Handlers,
  tls?: ListenerTls,
): HttpListener {
  const { log, store, clock } = deps
  const { version } = deps.installation
  const watch = deps.tokens ?? createTokenWatch(deps)
  const noteUse = createTokenUse({ store, log })
  const listener = createHttpListener({
    log,
    errors: ERRORS,
    bodyBytesMax: 4_000_000,
    ...(tls === undefined ? {} : { tls }),
  })
  for (const [name, spec] of Object.entries(routes as Record<string, RouteSpec>)) {
    listener.app.route({
      method: spec.method,
      url: spec.path,
      handler: async (request, reply) => {
        const gone = new AbortController()
        reply.raw.on('close', () => gone.abort())
        const now = clock.now()
        const { params, query, body, headers } = request
        reply.header(VERSION_HEADER, version)
        if (spec.action !== 'open') refuseOtherVersion(version, headers[VERSION_HEADER])
        const tokens = spec.action === 'open' ? [] : tokensOf(headers.authorization)
        const token =
          tokens.length === 0
            ? null
            : await store.read((reader) => authenticate(reader, tokens, now))
        if (token !== null) noteUse(token, now)
        const caller =
          token === null ? null : { name: token.name, policy: token.policy, token: token.id }
        const ended = token === null ? await store.read((reader) => endOf(reader, tokens)) : null
        // Who left meanwhile holds nothing: its `close` was before this.
        const stays = token !== null && isLong(spec) && !reply.raw.destroyed
        const hold = stays ? watch.hold(token.id) : null
        reply.raw.on('close', () => hold?.release())
        const signal = hold === null ? gone.signal : AbortSignal.any([gone.signal, hold.signal])
        const raw = { params, query, body, headers, signal, caller, ended }
        const answer = await invoke(handlers, name as RouteName, raw, now).catch((error) => {
          // Clients of the image store learn from it how to show who they are.
          if (error instanceof PlatformError && error.code === 'unauthorized')
            reply.header('www-authenticate', name === 'registryToken' ? BASIC : BEARER)
          throw error
        })
        if (spec.reply === 'socket') {
          if (!wantsSocket(request))
            throw new PlatformError('invalid', 'this is a WebSocket: ask for an upgrade to one')
          const serve = answer as (socket: MessageSocket) => Promise<void>
          const socket = await acceptSocket(reply).catch((error) => {
            // The reply hears no `close` any more.
            hold?.release()
            throw error
          })
          await serveSocket(socket, serve, hold)
          return reply
        }
        if (spec.reply === 'lines') {
          const lines = answer as Parameters<typeof sendLines>[1]
          await sendLines(reply, untilTokenEnds(lines, hold), {
            log,
            headers: { [VERSION_HEADER]: version, [SIGNS_HEADER]: String(SIGN_MS / 1000) },
            signMs: SIGN_MS,
          })
          return reply
        }
        reply.code(spec.status ?? 200)
        return spec.reply === 'none' ? reply.send() : reply.send(answer)
      },
    })
  }
  for (const { path, why } of NOT_OFFERED)
    for (const url of [path, `${path}/*`])
      listener.app.all(url, async (request) => {
        const tokens = tokensOf(request.headers.authorization)
        const caller = await store.read((reader) => authenticate(reader, tokens, clock.now()))
        if (caller === null) throw new PlatformError('unauthorized', 'this needs a token')
        throw new PlatformError('not_offered', why)
      })
  return listener
}

/** What goes on for as long as it takes. */
function isLong(spec: RouteSpec): boolean {
  return spec.reply === 'lines' || spec.reply === 'socket' || spec.body === 'stream'
}

/** Until the session is over, or the token. */
async function serveSocket(
  socket: MessageSocket,
  serve: (socket: MessageSocket) => Promise<void>,
  hold: Hold | null,
): Promise<void> {
  const end = () => socket.close(describeError(hold?.signal.reason))
  hold?.signal.addEventListener('abort', end, { once: true })
  if (hold?.signal.aborted) end()
  try {
    await serve(socket)
  } finally {
    socket.close()
    hold?.release()
  }
}

type Lines = Parameters<typeof sendLines>[1]

/** Who is cut off comes again, and then hears why. */
function untilTokenEnds(lines: Lines, hold: Hold | null): Lines {
  if (hold === null) return lines
  return async function* (signal) {
    yield* lines(AbortSignal.any([signal, hold.signal]))
    if (hold.signal.aborted) throw hold.signal.reason
  }
}

/** Who says no version (a script, another tool) is taken at its word: it knows what it sends. */
function refuseOtherVersion(ours: string, theirs: string | string[] | undefined): void {
  if (typeof theirs !== 'string' || versionDifference(ours, theirs) !== 'incompatible') return
  throw new PlatformError(
    'version_mismatch',
    `this server is Roost ${ours}, the command line is ${theirs}: they do not understand each other`,
  )
}
