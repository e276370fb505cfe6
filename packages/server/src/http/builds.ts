import { type BuildEvent, buildEvent, buildRequest } from '@roost/api'
import { describeError, type PeerClient, PlatformError } from '@roost/base'
import type { Host } from '@roost/core'

export interface BuildDeps {
  hosts(): Promise<readonly Host[]> | readonly Host[]
  /** A client for the agent of that host; the caller of this closes nothing. */
  agent(host: Host): PeerClient
}

/** Silence on a build's connection that means its host is gone; the agent sends a line at least every 10 s. */
const IDLE_MS = 45_000

/**
 * `POST /api/v1/apps/:app/builds`: picks a builder host, passes the context on to its agent and its events back. Whoever iterates
 * aborts `signal` when the client goes, and with it the build. Throws before the first event where no build was begun.
 */
export async function createBuild(
  deps: BuildDeps,
  build: {
    readonly app: string
    /** The header `roost-build`: base64 of a JSON `BuildRequest`. Absent: all defaults. */
    readonly header: string | undefined
    readonly body: AsyncIterable<Uint8Array>
    readonly signal: AbortSignal
    /** Once it is over; true: its host said so. */
    readonly onEnd?: (said: boolean) => void
  },
): Promise<AsyncIterable<BuildEvent>> {
  const request = parseBuildHeader(build.header)
  const host = pickBuilder(await deps.hosts())
  const lines = deps.agent(host).lines<unknown>('POST', '/agent/v1/builds', {
    body: build.body,
    signal: build.signal,
    idleMs: IDLE_MS,
    headers: {
      'content-type': 'application/gzip',
      'roost-build': Buffer.from(JSON.stringify({ ...request, app: build.app })).toString('base64'),
    },
  })
  const iterator = lines[Symbol.asyncIterator]()
  let first: IteratorResult<unknown>
  try {
    first = await iterator.next()
  } catch (cause) {
    const refused = cause instanceof PlatformError && cause.code !== 'unavailable'
    build.onEnd?.(refused)
    build.signal.throwIfAborted()
    if (refused) throw cause
    throw new PlatformError('unavailable', `builder host ${host.name} does not answer`, {
      cause,
      retry: 'later',
    })
  }
  return relay(iterator, first, host, build)
}

async function* relay(
  iterator: AsyncIterator<unknown>,
  first: IteratorResult<unknown>,
  host: Host,
  { signal, onEnd }: { readonly signal: AbortSignal; readonly onEnd?: (said: boolean) => void },
): AsyncIterable<BuildEvent> {
  let ended = false
  try {
    for (let next = first; !next.done; next = await iterator.next()) {
      const event = buildEvent.safeParse(next.value)
      // `ping` lines only say that the builder is there.
      if (!event.success) continue
      ended = event.data.kind === 'done' || event.data.kind === 'failed'
      if (ended) onEnd?.(true)
      yield event.data
    }
    if (!ended) yield failed(`builder host ${host.name} ended the build without a result`)
  } catch (error) {
    if (signal.aborted) return
    yield failed(`builder host ${host.name}: ${describeError(error)}`)
  } finally {
    if (!ended) onEnd?.(false)
    await iterator.return?.()
  }
}

function failed(message: string): BuildEvent {
  return { kind: 'failed', code: 'unavailable', message }
}

export function parseBuildHeader(header: string | undefined) {
  if (header !== undefined && header.length > 200_000)
    throw new PlatformError('invalid', 'header roost-build is too long')
  let json: unknown = {}
  if (header !== undefined)
    try {
      json = JSON.parse(Buffer.from(header, 'base64').toString('utf8'))
    } catch (cause) {
      throw new PlatformError('invalid', 'header roost-build is no base64 of JSON', { cause })
    }
  const parsed = buildRequest.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new PlatformError(
      'invalid',
      `header roost-build: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`,
    )
  }
  return parsed.data
}

/** The caches lie on one host, so it is always the same one while it is there: lowest number first. */
export function pickBuilder(hosts: readonly Host[]): Host {
  const builders = hosts.filter((host) => host.builder).sort((a, b) => a.number - b.number)
  if (builders.length === 0)
    throw new PlatformError('unavailable', 'no host of this installation builds images', {
      retry: 'never',
    })
  const here = builders.find((host) => host.status === 'ok')
  if (here === undefined)
    throw new PlatformError(
      'unavailable',
      `builder host ${builders.map((host) => host.name).join(', ')} is unreachable; deploy with --image, or try again when it is back`,
      { retry: 'later' },
    )
  return here
}
