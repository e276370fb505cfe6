import { once } from 'node:events'
import type { BuildEvent } from '@roost/api'
import { createHttpListener, createPeerClient, type HttpListener, silentLogger } from '@roost/base'
import { afterEach, expect, test } from 'vitest'
import type { Builder } from './builder.ts'
import { registerBuildRoutes } from './routes.ts'

let listener: HttpListener | undefined
afterEach(() => listener?.close(100))

async function clientOf(run: Builder['run'] | null) {
  listener = createHttpListener({
    log: silentLogger,
    errors: { unavailable: { status: 503 }, invalid: { status: 400 } },
  })
  const rest = {
    cache: {
      whileIdle: async () => false,
      entries: async () => [],
      remove: async () => [],
    },
    sweep: async () => {},
    close: async () => {},
    removeNetwork: async () => {},
  }
  registerBuildRoutes(listener.app, { builder: run === null ? null : { run, ...rest } })
  const [bound] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
  return createPeerClient({
    url: `http://127.0.0.1:${bound?.port}`,
    tls: { ca: '', certificate: '', key: '' },
    expect: 'roost://agent/1',
  })
}

async function* body(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('first ')
  yield Buffer.from('second')
}

const ask = (client: Awaited<ReturnType<typeof clientOf>>, header: object, signal?: AbortSignal) =>
  client.lines<BuildEvent>('POST', '/agent/v1/builds', {
    body: body(),
    headers: {
      'content-type': 'application/gzip',
      'roost-build': Buffer.from(JSON.stringify(header)).toString('base64'),
    },
    ...(signal === undefined ? {} : { signal }),
  })

test('the request reaches the builder, its events come back in order', async () => {
  const client = await clientOf(async ({ app, request }, context, onEvent) => {
    await onEvent({ kind: 'step', name: `${app} ${request.dockerfile} ${request.target}` })
    let text = ''
    for await (const chunk of context) text += chunk
    for (let n = 0; n < 300; n++) await onEvent({ kind: 'output', text: `${n}` })
    await onEvent({ kind: 'failed', code: 'build_failed', message: text })
  })
  const events: BuildEvent[] = []
  for await (const event of ask(client, { app: 'shop', target: 'web' })) events.push(event)
  expect(events[0]).toEqual({ kind: 'step', name: 'shop Dockerfile web' })
  expect(events.slice(1, -1).map((event) => event.kind === 'output' && event.text)).toEqual(
    Array.from({ length: 300 }, (_, n) => `${n}`),
  )
  expect(events.at(-1)).toEqual({ kind: 'failed', code: 'build_failed', message: 'first second' })
  await client.close()
})

test('who hangs up ends the build, also one that waits to say something', async () => {
  const ended = new EventTarget()
  const client = await clientOf(async (_build, _context, onEvent, signal) => {
    await onEvent({ kind: 'step', name: 'x' })
    await once(signal, 'abort')
    await onEvent({ kind: 'output', text: 'nobody hears this' })
    ended.dispatchEvent(new Event('end'))
  })
  const abort = new AbortController()
  const end = once(ended, 'end')
  for await (const _event of ask(client, { app: 'shop' }, abort.signal)) break
  abort.abort()
  await end
  await client.close()
})

test('what is no request, or no builder, is refused before anything runs', async () => {
  const client = await clientOf(() => Promise.reject(new Error('not reached')))
  await expect(ask(client, { app: '../x' })[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'invalid',
  })
  await client.close()
  await listener?.close(100)
  const none = await clientOf(null)
  await expect(ask(none, { app: 'shop' })[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'unavailable',
  })
  await none.close()
})
