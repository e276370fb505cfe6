import { decodeFrame, encodeFrame, type SessionReply } from '@roost/api'
import { type MessageSocket, SESSIONS_PER_MACHINE } from '@roost/base'
import { ADMIN, type AppName, deployRole } from '@roost/core'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { insertToken, tokenId } from '../access/tokens.ts'
import { createSessionLog } from '../session/record-sessions.ts'
import type { Caller } from './handler.ts'
import { openTrialApi, type TrialApi } from './trial-api.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
})
afterEach(() => api.close())

/** What a client is told first that asks for a port of that name, once it has. */
async function proxy(caller: Caller, host: string, asks = Promise.resolve()): Promise<unknown> {
  const said: unknown[] = []
  const closed = new AbortController()
  const socket: MessageSocket = {
    send: async (message) => {
      const frame = decodeFrame(message)
      said.push(frame?.kind === 'control' ? frame.value : frame)
    },
    messages: (async function* () {
      await asks
      yield encodeFrame({ kind: 'control', value: { host, port: 80 } })
    })(),
    close: () => closed.abort(),
    closed: closed.signal,
  }
  const call = { params: { app: 'shop' }, caller }
  const serve = (await api.control.call('openPort', call)) as Serve
  await serve(socket)
  return said[0]
}
type Serve = (socket: MessageSocket) => Promise<void>

test('a token of one app is told of no other whether it exists', async () => {
  await api.call('POST', '/v1/apps', { app_name: 'blog' })
  const ci = { name: 'ci', policy: deployRole('shop' as AppName) }
  for (const app of ['blog', 'nowhere'])
    for (const host of [`${app}.internal`, `00000000000001.vm.${app}.internal`])
      expect(await proxy(ci, host)).toEqual({
        error: {
          code: 'forbidden',
          message: `this token does not allow machine:connect for app ${app}`,
        },
      })
  expect(await proxy(ci, 'shop.internal')).toMatchObject({
    error: { code: 'not_found', message: expect.stringContaining('no machine of shop') },
  })
})

test("places of proxies are a token's with all that were made with it, whatever they are called", async () => {
  const policy = deployRole('shop' as AppName)
  const make = async (secret: string, name: string, parent: Caller): Promise<Caller> => {
    const owner = { kind: 'deploy', name, policy, parent: parent.token ?? null } as const
    await api.deps.store.transaction((tx) => insertToken(tx, secret, owner, api.clock.now()))
    return { name, policy, token: tokenId(secret) }
  }
  const administrator = { name: 'administrator', policy: ADMIN, token: tokenId('admin') }
  const ci = await make('1', 'ci', administrator)
  const made = await make('2', 'anna', ci)
  const madeOfMade = await make('3', 'other', made)
  const anna = await make('4', 'anna', administrator)

  let ask = () => {}
  const asking = new Promise<void>((resolve) => {
    ask = resolve
  })
  const line = [ci, made, madeOfMade]
  const held = Array.from({ length: SESSIONS_PER_MACHINE }, (_, n) =>
    proxy(line[n % line.length] ?? ci, 'shop.internal', asking),
  )
  const code = async (caller: Caller) =>
    ((await proxy(caller, 'shop.internal')) as { error: { code: string } }).error.code
  // Once one more is refused, all are held.
  await vi.waitFor(async () => expect(await code(ci)).toBe('too_many'))
  for (const one of line) expect(await code(one)).toBe('too_many')
  // There is a place, but no machine.
  for (const one of [anna, administrator]) expect(await code(one)).toBe('not_found')
  ask()
  await Promise.all(held)
  for (const one of line) expect(await code(one)).toBe('not_found')
})

test('who was in an earlier app of the same name is not told', async () => {
  const sessions = createSessionLog(api.deps)
  const begin = (command: string) =>
    sessions.begin({
      ...{ app: 'shop' as AppName, machine: null, container: null, kind: 'proxy', command },
      ...{ token: 'ann', tokenId: null, user: null, terminal: false },
    })
  const told = async () => {
    const { body } = await api.call<SessionReply[]>('GET', '/api/v1/apps/shop/sessions')
    return body.map(({ command }) => command)
  }
  const open = await begin('of the earlier')
  expect(await told()).toEqual(['of the earlier'])
  await api.clock.advance(1000)
  await api.call('DELETE', '/v1/apps/shop')
  await api.call('POST', '/v1/apps', { app_name: 'shop' })
  await open.end({ exitCode: 0, reason: null, bytesIn: 0, bytesOut: 0, connections: 0 })
  expect(await told()).toEqual([])
  await begin('of this one')
  expect(await told()).toEqual(['of this one'])
})
