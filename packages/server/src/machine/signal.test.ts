import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTrialApi, type TrialApi } from '../http/trial-api.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
})
afterEach(() => api.close())

const send = async (id: string, signal: unknown) => {
  const { status, body } = await api.call('POST', `/v1/apps/shop/machines/${id}/signal`, { signal })
  return [status, status === 200 ? body : body.error]
}

test('a signal goes to the host of a machine that runs, by name or number', async () => {
  const { id } = await api.launch()
  await api.say(id, 'started')
  for (const signal of [9, 'SIGTERM', 'usr1'])
    expect(await send(id, signal)).toEqual([200, { ok: true }])
  expect(api.asked).toEqual(
    ['SIGKILL', 'SIGTERM', 'SIGUSR1'].map((signal) => ({
      method: 'POST',
      path: `/agent/v1/machines/${id}/signal`,
      body: { signal },
    })),
  )
})

test('one that is none, or to what does not run, is refused', async () => {
  const { id } = await api.launch()
  await api.say(id, 'stopped')
  expect(await send(id, 'SIGTERM')).toEqual([
    412,
    "unable to signal machine from current state: 'stopped'",
  ])
  expect((await send(id, 'SIGNOTHING'))[0]).toBe(400)
  expect((await send(id, null))[0]).toBe(400)
  expect(api.asked).toEqual([])
})

test('a host that does not answer is named', async () => {
  const machine = await api.launch()
  await api.say(machine.id, 'started')
  api.silent = true
  expect(await send(machine.id, 9)).toEqual([
    503,
    `host ${machine.host} does not answer: no answer`,
  ])
})
