import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createHttpListener, sendLines, silentLogger } from '@roost/base'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { checkedUrl, chosenServer, clientFor } from './connect.ts'
import { contextsFile, readContexts, removeContext, saveContext } from './contexts.ts'

let folder = ''
let env: Record<string, string> = {}
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-session-'))
  env = { HOME: folder, XDG_CONFIG_HOME: join(folder, 'config') }
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const one = { name: 'one', url: 'https://one:4280', token: 't1', ca: 'CA1' }
const two = { name: 'two', url: 'https://two:4280', token: 't2', ca: null }

test('the context that was saved last is used, and the one before it when it goes', () => {
  saveContext(one, env)
  saveContext(two, env)
  expect(chosenServer({ env })).toEqual({ url: two.url, token: 't2', ca: null, from: 'two' })
  expect(removeContext('two', env)).toBe(true)
  expect(removeContext('two', env)).toBe(false)
  expect(chosenServer({ env })).toEqual({ url: one.url, token: 't1', ca: 'CA1', from: 'one' })
  expect(statSync(contextsFile(env)).mode & 0o777).toBe(0o600)
})

test('saving one again replaces it', () => {
  saveContext(one, env)
  saveContext({ ...one, token: 'new' }, env)
  expect(readContexts(env).all).toEqual([{ ...one, token: 'new' }])
})

test('ROOST_API_URL goes first, and borrows token and authority of the context with that URL', () => {
  saveContext(one, env)
  saveContext(two, env)
  const url = 'https://one:4280/'
  expect(chosenServer({ env: { ...env, ROOST_API_URL: url } })).toEqual({
    url: 'https://one:4280',
    token: 't1',
    ca: 'CA1',
    from: 'ROOST_API_URL',
  })
  expect(chosenServer({ env: { ...env, ROOST_API_URL: url, ROOST_API_TOKEN: 'x' } }).token).toBe(
    'x',
  )
})

test('ROOST_API_CA names a file with a certificate, or is told', () => {
  const pem = '-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n'
  writeFileSync(join(folder, 'ca.pem'), pem)
  const given = { ...env, ROOST_API_URL: 'https://x', ROOST_API_TOKEN: 't' }
  expect(chosenServer({ env: { ...given, ROOST_API_CA: join(folder, 'ca.pem') } }).ca).toBe(pem)
  const missing = { ...given, ROOST_API_CA: join(folder, 'nope.pem') }
  expect(() => chosenServer({ env: missing })).toThrow(/ROOST_API_CA names .*nope\.pem/)
})

test('a URL without a token is told', () => {
  expect(() => chosenServer({ env: { ...env, ROOST_API_URL: 'https://x' } })).toThrow(
    'there is no token for https://x',
  )
})

test.each([
  ['https://host:4280/', 'https://host:4280'],
  ['http://127.0.0.1:80', 'http://127.0.0.1:80'],
  ['http://[::1]:80', 'http://[::1]:80'],
])('%s is a server', (url, checked) => {
  expect(checkedUrl(url)).toBe(checked)
})

test.each(['host:4280', 'ftp://host', 'http://203.0.113.7:4280', ''])('%j is none', (url) => {
  expect(() => checkedUrl(url)).toThrow()
})

test('a broken file of contexts is told, not taken for an empty one', () => {
  saveContext(one, env)
  writeFileSync(contextsFile(env), '{')
  expect(() => chosenServer({ env })).toThrow(/config\.json can't be read/)
})

describe('a server that falls silent in the middle of its lines', () => {
  const line = { timestamp: '2026-01-01T00:00:00.000Z', notice: 'hello' }

  /** How reading ends, at the latest after a second: after one line there is nothing more but signs. */
  async function read(how: { headers?: Record<string, string>; signMs?: number }) {
    const listener = createHttpListener({ log: silentLogger, errors: {} })
    listener.app.get('/api/v1/apps/shop/access-logs', (_request, reply) =>
      sendLines(
        reply,
        async function* (signal) {
          yield line
          await once(signal, 'abort')
        },
        how,
      ),
    )
    const [at] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
    const client = clientFor({ url: `http://127.0.0.1:${at?.port}`, ca: null, token: 't' })
    const signal = AbortSignal.timeout(1000)
    const heard: unknown[] = []
    try {
      const lines = client.appAccessLogs({ params: { app: 'shop' } }, { signal })
      for await (const event of lines) heard.push(event)
    } catch (error) {
      heard.push(signal.aborted ? 'left' : error)
    } finally {
      await listener.close(100)
    }
    return heard
  }

  test('is unreached once three signs that it promised are missing', async () => {
    expect(await read({ headers: { 'roost-signs': '0.03' } })).toEqual([
      line,
      expect.objectContaining({
        name: 'ServerUnreached',
        cause: expect.objectContaining({ message: 'the server has said nothing for 0.09 s' }),
      }),
    ])
  })

  test('is listened to for as long as its signs come', async () => {
    expect(await read({ headers: { 'roost-signs': '0.15' }, signMs: 20 })).toEqual([line, 'left'])
  })

  test('is listened to when it is older and promises none', async () => {
    expect(await read({})).toEqual([line, 'left'])
  })
})
