import { Readable } from 'node:stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createHttpListener, type HttpListener, sendLines } from './http-listener.ts'
import { silentLogger } from './log.ts'
import { createPeerClient, type PeerClient } from './peer-client.ts'
import { PlatformError } from './platform-error.ts'

let listener: HttpListener
let client: PeerClient
const ended: string[] = []

beforeEach(async () => {
  ended.length = 0
  listener = createHttpListener({
    log: silentLogger,
    errors: { conflict: { status: 409 }, unavailable: { status: 503 } },
    bodyBytesMax: 1000,
  })
  const { app } = listener
  app.post('/echo', async (request) => ({ got: request.body ?? null }))
  app.delete('/nothing', async (_request, reply) => reply.code(204).send())
  app.get('/conflict', async () => {
    throw new PlatformError('conflict', 'someone else has it', { cause: new Error('held by 7') })
  })
  app.get('/crash', async () => {
    throw new Error('a secret detail')
  })
  app.get('/never', () => new Promise(() => {}))
  app.post('/upload', (request, reply) =>
    sendLines(reply, async function* () {
      let bytes = 0
      for await (const chunk of request.body as Readable) bytes += chunk.length
      yield { bytes }
    }),
  )
  app.get('/count', (_request, reply) =>
    sendLines(reply, async function* () {
      for (let n = 0; n < 5; n++) yield { n }
    }),
  )
  app.get('/flood', (_request, reply) =>
    sendLines(reply, async function* (signal) {
      try {
        for (let n = 0; !signal.aborted; n++) yield { n, filling: 'x'.repeat(1000) }
      } finally {
        ended.push('flood')
      }
    }),
  )
  app.get('/silent', (_request, reply) =>
    sendLines(reply, async function* (signal) {
      yield { n: 0 }
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
      ended.push('silent')
    }),
  )
  app.get('/breaks', (_request, reply) =>
    sendLines(reply, async function* () {
      yield { n: 0 }
      throw new Error('broke')
    }),
  )
  const [bound, second] = await listener.listen([
    { address: '127.0.0.1', port: 0 },
    { address: '127.0.0.2', port: 0 },
  ])
  expect(second?.address).toBe('127.0.0.2')
  client = createPeerClient({
    url: `http://127.0.0.1:${bound?.port}`,
    tls: { ca: '', certificate: '', key: '' },
    expect: 'roost://server',
  })
})
afterEach(async () => {
  await client.close()
  await listener.close(200)
})

const failure = (work: Promise<unknown>) => work.then(() => null).catch((error: unknown) => error)

test('JSON goes there and back, an empty body is nothing', async () => {
  expect(await client.json('POST', '/echo', { a: 1 })).toEqual({ got: { a: 1 } })
  expect(await client.json('POST', '/echo')).toEqual({ got: null })
  expect(await client.json('DELETE', '/nothing')).toBeUndefined()
})

test('an error arrives with code and text of who threw it', async () => {
  expect(await failure(client.json('GET', '/conflict'))).toMatchObject({
    code: 'conflict',
    message: 'someone else has it: held by 7',
    retry: 'never',
  })
})

test('what nobody expected shows nothing of itself', async () => {
  const reply = await listener.app.inject({ url: '/crash' })
  expect(reply.statusCode).toBe(500)
  expect(reply.json()).toEqual({
    error: 'internal error',
    status: 'internal',
    code: 'internal',
    request_id: reply.headers['fly-request-id'],
  })
})

test('a body that is no JSON, or too large, or a route that is not there says so', async () => {
  const bad = await listener.app.inject({
    method: 'POST',
    url: '/echo',
    headers: { 'content-type': 'application/json' },
    payload: '{"a":',
  })
  expect([bad.statusCode, bad.json().status]).toEqual([400, 'invalid'])
  const large = await listener.app.inject({
    method: 'POST',
    url: '/echo',
    headers: { 'content-type': 'application/json' },
    payload: JSON.stringify({ a: 'x'.repeat(2000) }),
  })
  expect([large.statusCode, large.json().status]).toEqual([413, 'invalid'])
  const none = await listener.app.inject({ url: '/none?token=x' })
  expect([none.statusCode, none.json().error]).toEqual([404, 'no route GET /none'])
})

test('nobody there, and nobody answering, are errors to try again later', async () => {
  const nobody = createPeerClient({
    url: 'http://127.0.0.1:1',
    tls: { ca: '', certificate: '', key: '' },
    expect: 'roost://server',
  })
  expect(await failure(nobody.json('GET', '/'))).toMatchObject({
    code: 'unavailable',
    retry: 'later',
  })
  await nobody.close()
  expect(await failure(client.json('GET', '/never', undefined, { timeoutMs: 30 }))).toMatchObject({
    code: 'unavailable',
    cause: { message: 'no reply within 30 ms' },
  })
})

test('an abort by the caller is no platform error', async () => {
  const stop = new AbortController()
  const asked = failure(client.json('GET', '/never', undefined, { signal: stop.signal }))
  stop.abort()
  expect(await asked).toMatchObject({ name: 'AbortError' })
})

test('lines arrive one by one, uploads are streamed', async () => {
  const got = []
  for await (const line of client.lines<{ n: number }>('GET', '/count')) got.push(line.n)
  expect(got).toEqual([0, 1, 2, 3, 4])
  const body = Readable.from(
    (function* () {
      for (let n = 0; n < 100; n++) yield Buffer.alloc(10_000)
    })(),
  )
  const upload = client.lines('POST', '/upload', {
    body,
    headers: { 'content-type': 'application/gzip' },
  })
  for await (const line of upload) expect(line).toEqual({ bytes: 1_000_000 })
})

test('who stops reading stops the source', async () => {
  for await (const line of client.lines<{ n: number }>('GET', '/flood')) if (line.n === 50) break
  await expect.poll(() => ended, { timeout: 5000 }).toEqual(['flood'])
})

test('a stream that breaks or falls silent is an error, one that ends is not', async () => {
  const read = async (path: string, idleMs: number) => {
    for await (const _ of client.lines('GET', path, { idleMs }));
  }
  expect(await failure(read('/breaks', 15_000))).toMatchObject({ code: 'unavailable' })
  expect(await failure(read('/silent', 100))).toMatchObject({ code: 'unavailable' })
  await expect.poll(() => ended, { timeout: 5000 }).toEqual(['silent'])
})

test('closing ends streams at once and cuts the rest off at the deadline', async () => {
  const reading = (async () => {
    for await (const _ of client.lines('GET', '/silent'));
  })()
  const stuck = failure(client.json('GET', '/never'))
  await expect.poll(() => listener.app.server !== null).toBe(true)
  const first = client.lines('GET', '/silent')[Symbol.asyncIterator]()
  await first.next()
  await listener.close(100)
  await reading
  expect(ended).toEqual(['silent', 'silent'])
  expect(await stuck).toBeInstanceOf(PlatformError)
})
