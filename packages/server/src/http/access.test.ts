import { decodeFrame, encodeFrame, type SessionReply } from '@roost/api'
import type { MessageSocket } from '@roost/base'
import { type AppName, deployRole } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createSessionLog } from '../session/record-sessions.ts'
import type { Caller } from './handler.ts'
import { openTrialApi, type TrialApi } from './trial-api.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
})
afterEach(() => api.close())

/** What a client is told first that asks for a port of that name. */
async function proxy(caller: Caller, host: string): Promise<unknown> {
  const said: unknown[] = []
  const closed = new AbortController()
  const socket: MessageSocket = {
    send: async (message) => {
      const frame = decodeFrame(message)
      said.push(frame?.kind === 'control' ? frame.value : frame)
    },
    messages: (async function* () {
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
