import { Readable } from 'node:stream'
import { type BuildEvent, buildRequest } from '@roost/api'
import { PlatformError, sendLines } from '@roost/base'
import type { FastifyInstance } from 'fastify'
import type { Builder } from './builder.ts'

/** Said when a build is silent, so that silence on the line means that the builder is gone. */
const PING_MS = 10_000
const APP = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/**
 * `POST /agent/v1/builds`: body a gzipped TAR, header `roost-build` base64 of a JSON `BuildRequest` with `app`; the reply is a
 * `BuildEvent` a line, with `{"kind":"ping"}` among them. Whoever hangs up ends the build.
 */
export function registerBuildRoutes(
  app: FastifyInstance,
  deps: { readonly builder: Builder | null },
): void {
  app.post('/agent/v1/builds', async (request, reply) => {
    const { builder } = deps
    if (builder === null)
      throw new PlatformError('unavailable', 'this host does not build images', { retry: 'never' })
    const build = parseHeader(request.headers['roost-build'])
    const body = request.body
    if (!(body instanceof Readable))
      throw new PlatformError('invalid', 'the body must be a gzipped TAR, as application/gzip')
    await sendLines(reply, (signal) => events(builder, build, body, signal))
  })
}

async function* events(
  builder: Builder,
  build: Parameters<Builder['run']>[0],
  body: Readable,
  hungUp: AbortSignal,
): AsyncGenerator<BuildEvent | { kind: 'ping' }> {
  const ending = new AbortController()
  const signal = AbortSignal.any([hungUp, ending.signal])
  // One event at a time: the build waits until it is taken.
  const waiting: { event: BuildEvent; taken: () => void }[] = []
  let wake = () => {}
  let ended = false
  let thrown: unknown = null
  const running = builder
    .run(
      build,
      body,
      (event) =>
        new Promise<void>((resolve) => {
          // Nobody listens any more.
          if (signal.aborted) return resolve()
          waiting.push({ event, taken: resolve })
          wake()
        }),
      signal,
    )
    .catch((error: unknown) => {
      thrown = error
    })
    .finally(() => {
      ended = true
      wake()
    })
  signal.addEventListener('abort', () => wake(), { once: true })
  try {
    while (!signal.aborted) {
      const next = waiting.shift()
      if (next !== undefined) {
        next.taken()
        yield next.event
        continue
      }
      if (ended) break
      const woken = await new Promise<boolean>((resolve) => {
        const timer = setTimeout(() => resolve(false), PING_MS)
        wake = () => {
          clearTimeout(timer)
          resolve(true)
        }
      })
      if (!woken) yield { kind: 'ping' }
    }
    if (thrown !== null && !signal.aborted) throw thrown
  } finally {
    ending.abort()
    for (const { taken } of waiting.splice(0)) taken()
    await running
  }
}

function parseHeader(header: unknown): Parameters<Builder['run']>[0] {
  if (typeof header !== 'string')
    throw new PlatformError('invalid', 'header roost-build is missing')
  let json: unknown
  try {
    json = JSON.parse(Buffer.from(header, 'base64').toString('utf8'))
  } catch (cause) {
    throw new PlatformError('invalid', 'header roost-build is no base64 of JSON', { cause })
  }
  const parsed = buildRequest.safeParse(json)
  const name = (json as { app?: unknown } | null)?.app
  if (!parsed.success || typeof name !== 'string' || !APP.test(name))
    throw new PlatformError('invalid', 'header roost-build: no BuildRequest with an app')
  return { app: name, request: parsed.data }
}
