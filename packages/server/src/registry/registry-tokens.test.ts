import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '@roost/base'
import type { HostId } from '@roost/core'
import { decodeProtectedHeader } from 'jose'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { registryToken } from '../http/registry-token.ts'
import { agentRegistryToken } from './agent-registry-token.ts'
import { openRegistryTokens } from './registry-tokens.ts'

let dir = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'roost-tokens-'))
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

const open = (clock = systemClock) =>
  openRegistryTokens({ dataDir: dir, bundleFile: join(dir, 'bundle.pem'), clock })
const access = [{ repository: 'shop', actions: ['pull'] as const }]

test('tokens carry the certificate that is in the bundle, and outlive a restart', async () => {
  const { token } = await (await open()).issue({ subject: 'me', access })
  const [certificate] = decodeProtectedHeader(token).x5c ?? []
  expect(readFileSync(join(dir, 'bundle.pem'), 'utf8').replaceAll('\n', '')).toContain(certificate)
  expect(statSync(join(dir, 'registry-token.pem')).mode & 0o777).toBe(0o600)
  expect(await (await open()).verify(token)).toMatchObject({ subject: 'me', access })
})

test('an old token, a changed one and one of another installation are nothing', async () => {
  const past = { ...systemClock, now: () => Date.now() - 3_600_000 }
  const tokens = await open()
  const { token: old } = await (await open(past)).issue({ subject: 'me', access })
  expect(await tokens.verify(old)).toBeNull()
  const { token } = await tokens.issue({ subject: 'me', access })
  expect(await tokens.verify(`${token.slice(0, -4)}AAAA`)).toBeNull()
  rmSync(join(dir, 'registry-token.pem'))
  expect(await (await open()).verify(token)).toBeNull()
})

test('the token service knows Roost tokens and its own, and refuses all others', async () => {
  const tokens = await open()
  const deps = {
    tokens,
    clock: systemClock,
    authenticate: async (token: string) =>
      token === 'good' ? { name: 'ann', may: (_: unknown, app: unknown) => app === 'shop' } : null,
  }
  const ask = (password: string | null, scope: string) => {
    const basic = `Basic ${Buffer.from(`anyone:${password}`).toString('base64')}`
    return registryToken(deps, { authorization: password === null ? undefined : basic, scope })
  }
  const grants = async (password: string, scope: string) =>
    (await tokens.verify((await ask(password, scope))?.token ?? ''))?.access
  expect(await ask(null, '')).toBeNull()
  expect(await ask('bad', '')).toBeNull()
  expect(await ask('', '')).toBeNull()
  expect(await grants('good', '')).toEqual([])
  expect(await grants('good', 'repository:shop:pull')).toEqual(access)
  const { token } = await tokens.issue({ subject: 'agent/1', access })
  expect(await grants(token, 'repository:shop:pull,push repository:other:pull')).toEqual(access)
  expect(await ask(`${token.slice(0, -4)}AAAA`, '')).toBeNull()
})

test('what is given for a registry token ends no later than that one does', async () => {
  let now = Date.now()
  const clock = { ...systemClock, now: () => now }
  const tokens = await open(clock)
  let revoked = false
  const person = { name: 'ann', may: () => true }
  const deps = { tokens, clock, authenticate: async () => (revoked ? null : person) }
  const ask = (password: string) => {
    const authorization = `Basic ${Buffer.from(`anyone:${password}`).toString('base64')}`
    return registryToken(deps, { authorization, scope: 'repository:shop:pull' })
  }
  const first = (await ask('good'))?.token ?? ''
  const { expiresAt = 0 } = (await tokens.verify(first)) ?? {}
  revoked = true
  now += 200_000
  const second = await ask(first)
  expect(second?.expires_in).toBeLessThanOrEqual(100)
  expect(await tokens.verify(second?.token ?? '')).toMatchObject({ access, expiresAt })
  now = expiresAt
  expect(await ask(second?.token ?? '')).toBeNull()
})

test('agents pull anything; only builders push, and never to the mirror', async () => {
  const tokens = await open()
  const host = { id: 'h1' as HostId, name: 'ams-1', builder: false }
  const grants = async (repository: string, push: boolean, builder: boolean) => {
    const { token } = await agentRegistryToken(tokens, { ...host, builder }, { repository, push })
    return (await tokens.verify(token))?.access[0]?.actions.join()
  }
  expect(await grants('docker.io/library/node', false, false)).toBe('pull')
  expect(await grants('shop', true, true)).toBe('pull,push')
  await expect(grants('shop', true, false)).rejects.toMatchObject({ code: 'forbidden' })
  await expect(grants('docker.io/library/node', true, true)).rejects.toMatchObject({
    code: 'forbidden',
  })
  await expect(grants('../x', false, false)).rejects.toMatchObject({ code: 'invalid' })
})
