import { expect, test } from 'vitest'
import { ApiError, createApiClient, type FetchInit, type FetchReply } from './client.ts'

interface Answer {
  readonly status?: number
  readonly body?: string
  readonly chunks?: readonly string[]
  readonly headers?: Record<string, string>
}

/** A server that gives one answer and remembers what it was asked. */
function serverThatSays(answer: Answer) {
  const asked: { url: string; init: FetchInit }[] = []
  const state = { cancelled: false }
  const fetch = async (url: string, init: FetchInit): Promise<FetchReply> => {
    asked.push({ url, init })
    const chunks = (answer.chunks ?? [answer.body ?? '']).map((c) => new TextEncoder().encode(c))
    return {
      status: answer.status ?? 200,
      headers: { get: (name) => answer.headers?.[name] ?? null },
      text: async () => answer.body ?? '',
      body: {
        getReader: () => ({
          read: async () => {
            const value = chunks.shift()
            return value === undefined ? { done: true } : { done: false, value }
          },
          cancel: async () => {
            state.cancelled = true
          },
        }),
      },
    }
  }
  const client = createApiClient({ baseUrl: 'https://server:4280/', token: 'secret', fetch })
  return { client, asked, state }
}

test('both sides say their version, and a refusal has the time of the server', async () => {
  const { asked } = serverThatSays({})
  const answer = {
    status: 401,
    body: '{"error":"no"}',
    headers: { date: 'Thu, 01 Jan 2026 00:00:00 GMT' },
  }
  const { client: plain } = serverThatSays(answer)
  await expect(plain.listApps()).rejects.toMatchObject({ serverTime: answer.headers.date })
  const fetch = async (url: string, init: FetchInit): Promise<FetchReply> => {
    asked.push({ url, init })
    return { status: 200, headers: { get: () => null }, text: async () => '[]', body: null }
  }
  const client = createApiClient({ baseUrl: 'https://server', fetch, version: '1.2.3' })
  await client.listRegions()
  expect(asked[0]?.init.headers['roost-version']).toBe('1.2.3')
})

test('params go into the path, queries behind it, and the token into its header', async () => {
  const { client, asked } = serverThatSays({ body: '[]' })
  const reply = await client.listMachines({
    params: { app: 'shop' },
    query: { region: 'ams', state: 'started & well' },
  })
  expect(reply).toEqual([])
  expect(asked[0]?.url).toBe(
    'https://server:4280/v1/apps/shop/machines?region=ams&state=started%20%26%20well',
  )
  expect(asked[0]?.init.method).toBe('GET')
  expect(asked[0]?.init.headers['authorization']).toBe('Bearer secret')
  expect(asked[0]?.init.body).toBeUndefined()
})

test('a repeatable query is repeated', async () => {
  const { client, asked } = serverThatSays({ body: '{"ok":true}' })
  await client.waitMachine({
    params: { app: 'shop', id: '0123456789abcd' },
    query: { state: ['stopped', 'destroyed'], timeout: 5 },
  })
  expect(asked[0]?.url).toMatch(/\?state=stopped&state=destroyed&timeout=5$/)
})

test('a body is JSON, and the reply is checked against its schema', async () => {
  const { client, asked } = serverThatSays({ body: '{"release":null}' })
  const reply = await client.setSecrets({
    params: { app: 'shop' },
    body: { values: { KEY: 'v', OLD: null }, stage: true },
  })
  expect(reply).toEqual({ release: null })
  expect(asked[0]?.init.body).toBe('{"values":{"KEY":"v","OLD":null},"stage":true}')
  expect(asked[0]?.init.headers['content-type']).toBe('application/json')
})

test('an answer that does not fit its schema is an error that names the field', async () => {
  const { client } = serverThatSays({ body: '{"release":7}' })
  const failure = client.setSecrets({ params: { app: 'shop' }, body: { values: {} } })
  await expect(failure).rejects.toThrow(/setSecrets.*release/)
})

test.each([
  [404, '{"error":"no app \\"shop\\"","status":"not_found"}', 'not_found', 'no app "shop"'],
  [422, '{"error":"x","message":"taken","status":"name_taken"}', 'name_taken', 'taken'],
  [409, '{"error":"busy"}', 'conflict', 'busy'],
  [418, '{"error":"odd","status":"teapot"}', 'invalid', 'odd'],
  [502, '<html>Bad Gateway</html>', 'internal', '<html>Bad Gateway</html>'],
] as const)('a refusal with %i becomes an ApiError', async (status, body, code, message) => {
  const { client } = serverThatSays({ status, body, headers: { 'fly-request-id': '01J' } })
  const error = await client.getApp({ params: { app: 'shop' } }).catch((e: unknown) => e)
  expect(error).toBeInstanceOf(ApiError)
  expect(error).toMatchObject({ status, code, message, requestId: '01J', route: 'getApp' })
})

test('lines arrive one by one, however the bytes were cut', async () => {
  const text = ['é', 'b', 'c'].map((message) => JSON.stringify(logLine(message))).join('\n')
  const bytes = [...`${text}\n\n`].map(String)
  const { client } = serverThatSays({ chunks: bytes })
  const heard: string[] = []
  for await (const line of client.appLogs({ params: { app: 'shop' } })) heard.push(line.message)
  expect(heard).toEqual(['é', 'b', 'c'])
})

test('who stops reading lines ends the request', async () => {
  const { client, state } = serverThatSays({
    chunks: [`${JSON.stringify(logLine('a'))}\n`, `${JSON.stringify(logLine('b'))}\n`],
  })
  for await (const _ of client.appLogs({ params: { app: 'shop' } })) break
  expect(state.cancelled).toBe(true)
})

test('a refusal of a lines route is thrown where it is read', async () => {
  const { client } = serverThatSays({ status: 403, body: '{"error":"not yours"}' })
  const read = async () => {
    for await (const _ of client.appLogs({ params: { app: 'shop' } })) return
  }
  await expect(read()).rejects.toMatchObject({ code: 'forbidden' })
})

test('a stream is sent as it is, with the headers of the call', async () => {
  const { client, asked } = serverThatSays({
    chunks: ['{"kind":"failed","code":"build_failed","message":"no"}\n'],
  })
  const body = (async function* () {
    yield new Uint8Array([1])
  })()
  const events = []
  for await (const event of client.createBuild(
    { params: { app: 'shop' }, body },
    { headers: { 'roost-build': 'e30=' } },
  ))
    events.push(event.kind)
  expect(events).toEqual(['failed'])
  expect(asked[0]?.init.body).toBe(body)
  expect(asked[0]?.init.headers['roost-build']).toBe('e30=')
})

function logLine(message: string) {
  return { timestamp: '2026-01-01T00:00:00.000Z', machine: 'm', region: 'ams', host: 'h', message }
}
