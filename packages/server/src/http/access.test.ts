import type { SessionReply } from '@roost/api'
import type { AppName } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createSessionLog } from '../session/record-sessions.ts'
import { openTrialApi, type TrialApi } from './trial-api.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
})
afterEach(() => api.close())

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
