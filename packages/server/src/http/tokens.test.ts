import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { newTokenReply, tokenReply } from '@roost/api'
import { silentLogger } from '@roost/base'
import { ADMIN, lineOf, TOKEN_KEPT_MS } from '@roost/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { createTokenWatch, type TokenWatch } from '../access/token-watch.ts'
import { insertToken, tokenId } from '../access/tokens.ts'
import { type ControlPlane, createControlPlane, type Deps, memoryDeps } from '../control-plane.ts'
import { purge } from '../laps/purge-lap.ts'
import { createSteppedClock, type SteppedClock } from '../laps/simulated-hosts.ts'
import { listTokens } from '../store/tokens.ts'
import { createApiListener } from './server.ts'

const START = Date.UTC(2026, 0, 1)
const HOUR_S = 3600
let clock: SteppedClock
let deps: Deps
let control: ControlPlane
let watch: TokenWatch
let listener: ReturnType<typeof createApiListener>

beforeEach(async () => {
  clock = createSteppedClock(START)
  deps = memoryDeps({ clock })
  control = createControlPlane(deps)
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  await deps.store.transaction((tx) =>
    insertToken(tx, 'admin', { name: 'administrator', policy: ADMIN }, START),
  )
  watch = createTokenWatch(deps)
  listener = createApiListener({ ...deps, tokens: watch, log: silentLogger }, control.handlers)
  await listener.app.ready()
  for (const name of ['shop', 'blog']) await call('POST', '/v1/apps', { name })
})
afterEach(async () => {
  await listener.close(0)
  await deps.store.close()
})

async function call(
  method: 'GET' | 'POST' | 'DELETE',
  url: string,
  body?: unknown,
  token = 'admin',
) {
  const reply = await listener.app.inject({
    method,
    url,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { payload: JSON.stringify(body) }),
  })
  return { status: reply.statusCode, body: reply.body === '' ? null : reply.json() }
}

async function make(body: unknown, token = 'admin') {
  const answer = await call('POST', '/api/v1/tokens', body, token)
  expect(answer.status, JSON.stringify(answer.body)).toBe(201)
  return newTokenReply.parse(answer.body)
}
const revoke = (id: string, token = 'admin', query = '') =>
  call('DELETE', `/api/v1/tokens/${id}${query}`, undefined, token)
const listed = async (token = 'admin', query = '') =>
  z.array(tokenReply).parse((await call('GET', `/api/v1/tokens${query}`, undefined, token)).body)
const names = async (token?: string, query?: string) =>
  (await listed(token, query)).map(({ name }) => name)

describe('tokens', () => {
  test('are made, used, listed and revoked, and say what became of them', async () => {
    const made = await make({ kind: 'deploy', app: 'shop', expires_in: HOUR_S })
    expect(made).toMatchObject({
      kind: 'deploy',
      name: 'deploy shop',
      apps: ['shop'],
      state: 'active',
      created_by: 'administrator',
      expires_at: '2026-01-01T01:00:00.000Z',
      last_used_at: null,
    })
    expect(made.token).toMatch(/^roost_[\w-]{43}$/)
    expect((await call('GET', '/v1/apps/shop', undefined, made.token)).status).toBe(200)
    expect((await call('GET', '/v1/apps/blog', undefined, made.token)).body.code).toBe('forbidden')
    expect((await call('GET', '/api/v1/whoami', undefined, made.token)).body).toMatchObject({
      id: made.id,
      kind: 'deploy',
      name: 'deploy shop',
    })
    await clock.advance(0)
    const [, row] = await listed()
    expect(row).toMatchObject({ id: made.id, last_used_at: '2026-01-01T00:00:00.000Z' })
    expect(JSON.stringify(row)).not.toContain(made.token)

    await clock.advance(1000)
    expect((await revoke(made.id)).body.revoked).toMatchObject([{ id: made.id, state: 'revoked' }])
    expect((await call('GET', '/v1/apps/shop', undefined, made.token)).body).toMatchObject({
      code: 'unauthorized',
      error: 'this token was revoked at 2026-01-01T00:00:01.000Z',
    })
    expect(await names()).toEqual(['administrator'])
    expect(await names('admin', '?all=true')).toEqual(['administrator', 'deploy shop'])
    // Again is the same: an answer may have been lost.
    expect(await revoke(made.id)).toEqual({ status: 200, body: { revoked: [] } })
  })

  test('what is stored is a hash', async () => {
    const { token } = await make({ kind: 'readonly' })
    const rows = await deps.store.read(({ db }) => db.selectFrom('tokens').selectAll().execute())
    expect(JSON.stringify(rows)).not.toContain(token.slice(6))
  })

  test('end by themselves', async () => {
    const { token } = await make({ kind: 'readonly', expires_in: 60 })
    await clock.advance(60_000)
    expect((await call('GET', '/v1/apps', undefined, token)).body.error).toBe(
      "this token expired at 2026-01-01T00:01:00.000Z; by this server's clock it is 2026-01-01T00:01:00.000Z",
    )
    expect(await names('admin', '?all=true')).toEqual(['administrator', 'readonly'])
    await purge(deps.store, START + 60_000 + TOKEN_KEPT_MS)
    expect(await names('admin', '?all=true')).toEqual(['administrator'])
  })

  test('make only narrower ones', async () => {
    const ci = await make({ kind: 'deploy', app: 'shop', name: 'ci', expires_in: HOUR_S })
    const wide = await call('POST', '/api/v1/tokens', { kind: 'admin' }, ci.token)
    expect([wide.status, wide.body.code, wide.body.error]).toEqual([
      403,
      'forbidden',
      'this token does not allow everything, so it makes no administrator',
    ])
    // Whether the other app exists is none of its business.
    for (const app of ['blog', 'nothing'])
      expect(
        (await call('POST', '/api/v1/tokens', { kind: 'readonly', app }, ci.token)).body.error,
      ).toBe(`this token is for shop, not for ${app}`)
    const ok = await make({ kind: 'readonly', app: 'shop' }, ci.token)
    expect(ok).toMatchObject({ expires_at: ci.expires_at, created_by: 'ci', parent: ci.id })
    const reader = await call('POST', '/api/v1/tokens', { kind: 'readonly', app: 'shop' }, ok.token)
    expect(reader.status).toBe(403)
    expect(await names(ci.token)).toEqual(['ci', 'readonly shop'])
    expect(await names(ok.token)).toEqual(['readonly shop'])
    expect((await revoke(tokenId('admin'), ci.token)).body.error).toMatch(/^token \w+ not found$/)
  })

  test.each([
    [{ kind: 'deploy' }, 400, 'a deploy token is for one app: name it'],
    [{ kind: 'deploy', app: 'nothing' }, 404, 'app not found'],
    [{ kind: 'admin', app: 'shop' }, 400, 'an administrator token is for everything'],
    [{ kind: 'root' }, 400, 'kind: '],
    [{ kind: 'readonly', expires_in: 1 }, 400, 'expires_in: '],
  ])('%o is refused', async (body, status, text) => {
    const answer = await call('POST', '/api/v1/tokens', body)
    expect(answer.status).toBe(status)
    expect(answer.body.error).toContain(text)
  })

  test('take those with them that were made with them, unless they are to be kept', async () => {
    const boss = await make({ kind: 'admin', name: 'boss', expires_in: null })
    const ci = await make({ kind: 'deploy', app: 'shop', name: 'ci' }, boss.token)
    const reader = await make({ kind: 'readonly', app: 'shop', name: 'reader' }, ci.token)
    expect((await revoke(ci.id, 'admin', '?keep_made=true')).body.revoked).toHaveLength(1)
    expect((await call('GET', '/v1/apps', undefined, reader.token)).status).toBe(200)
    const { revoked } = (await revoke(boss.id)).body
    expect(revoked.map(({ name }: { name: string }) => name)).toEqual(['boss', 'reader'])
    expect((await call('GET', '/v1/apps', undefined, reader.token)).status).toBe(401)
    const last = await revoke(tokenId('admin'))
    expect([last.status, last.body.error]).toEqual([
      409,
      'it is the last administrator token that does not expire: make another one first',
    ])
  })

  test('that revoke themselves and keep what they made give it no line of its own', async () => {
    const wish = { kind: 'deploy', app: 'shop', expires_in: null }
    const ci = await make(wish)
    const second = await make(wish, ci.token)
    const third = await make(wish, second.token)
    const kept = await make(wish, third.token)
    for (const { id, token } of [ci, second, third]) await revoke(id, token, '?keep_made=true')
    const line = async () => lineOf(await deps.store.read(listTokens), kept.id as never)
    expect(await line()).toBe(ci.id)
    await purge(deps.store, START + 2 * TOKEN_KEPT_MS)
    expect(await line()).toBe(ci.id)
    expect(await names('admin', '?all=true')).toHaveLength(3)
    const { revoked } = (await revoke(ci.id)).body
    expect(revoked.map(({ id }: { id: string }) => id)).toEqual([kept.id])
    for (const _ of ['what was kept', 'what made it'])
      await purge(deps.store, START + 4 * TOKEN_KEPT_MS)
    expect(await names('admin', '?all=true')).toEqual(['administrator'])
  })

  test('for an app end with it: the next app of that name is another', async () => {
    const { token } = await make({ kind: 'deploy', app: 'shop' })
    await call('DELETE', '/v1/apps/shop')
    await call('POST', '/v1/apps', { name: 'shop' })
    expect((await call('GET', '/v1/apps/shop', undefined, token)).status).toBe(401)
  })
})

describe('what a token holds open', () => {
  test('ends when it is revoked', async () => {
    const { id } = await make({ kind: 'readonly' })
    const hold = watch.hold(id as never)
    const other = watch.hold(tokenId('admin'))
    await clock.advance(0)
    expect([hold.signal.aborted, watch.count()]).toEqual([false, 2])
    await revoke(id)
    await clock.advance(0)
    expect(hold.signal.reason).toMatchObject({
      code: 'unauthorized',
      message: 'this token was revoked',
    })
    expect(other.signal.aborted).toBe(false)
    hold.release()
    hold.release()
    other.release()
    expect(watch.count()).toBe(0)
  })

  test('ends when it expires, and at once when it had ended before', async () => {
    const { id } = await make({ kind: 'readonly', expires_in: 60 })
    const hold = watch.hold(id as never)
    await clock.advance(59_999)
    expect(hold.signal.aborted).toBe(false)
    await clock.advance(1)
    expect(hold.signal.reason).toMatchObject({ message: 'this token has expired' })
    const late = watch.hold(id as never)
    await clock.advance(0)
    expect(late.signal.aborted).toBe(true)
  })

  test('a log that is followed is cut off', async () => {
    const { id, token } = await make({ kind: 'readonly', app: 'shop' })
    const [at] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
    const reply = await fetch(`http://127.0.0.1:${at?.port}/api/v1/apps/shop/logs?follow=true`, {
      headers: { authorization: `Bearer ${token}` },
    })
    expect(reply.status).toBe(200)
    const reading = reply.text()
    expect(watch.count()).toBe(1)
    await revoke(id)
    await expect(reading).rejects.toThrow()
    await expect.poll(() => watch.count()).toBe(0)
  })

  async function askOf(parts: Parameters<typeof createApiListener>, path: string, headers = '') {
    await listener.close(0)
    listener = createApiListener(...parts)
    const raws: ServerResponse[] = []
    listener.app.addHook('onRequest', async (_request, reply) => void raws.push(reply.raw))
    const [at] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
    const client = connect(at?.port ?? 0, '127.0.0.1')
    client.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n${headers}\r\n`)
    return { client, raws }
  }

  test('a client that left while the store was asked holds nothing', async () => {
    const counts: number[] = []
    const left = new AbortController()
    const read: Deps['store']['read'] = async (look) => {
      if (!left.signal.aborted) await once(left.signal, 'abort')
      return deps.store.read(look)
    }
    const appLogs = async () => {
      counts.push(watch.count())
      return async function* () {
        yield* []
      }
    }
    const { client, raws } = await askOf(
      [
        { ...deps, store: { ...deps.store, read }, tokens: watch, log: silentLogger },
        { ...control.handlers, appLogs },
      ],
      '/api/v1/apps/shop/logs?follow=true',
    )
    await expect.poll(() => raws).toHaveLength(1)
    client.destroy()
    await expect.poll(() => raws[0]?.destroyed).toBe(true)
    left.abort()
    await expect.poll(() => counts).toEqual([0])
  })

  test('a WebSocket that does not come about holds nothing', async () => {
    const counts: number[] = []
    const openPort = async () => {
      counts.push(watch.count())
      return async () => {}
    }
    const { client } = await askOf(
      [
        { ...deps, tokens: watch, log: silentLogger },
        { ...control.handlers, openPort },
      ],
      '/api/v1/apps/shop/proxy',
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: none\r\n',
    )
    await expect.poll(() => counts).toEqual([1])
    await expect.poll(() => watch.count()).toBe(0)
    client.destroy()
  })
})
