import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { checkedUrl, chosenServer } from './connect.ts'
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
