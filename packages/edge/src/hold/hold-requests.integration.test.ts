import { once } from 'node:events'
import { Agent } from 'node:http'
import type { Coming } from '@roost/core'
import { HELD_MAX_APP } from '@roost/core'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { app, type Backend, DOMAIN, openTrial, until } from '../trial-edge.ts'

const trial = await openTrial(1)
const { NET, HTTP_PORT, backend, get, load, raise, view } = trial
afterEach(() => trial.cleanUp())
afterAll(() => trial.close())

const replaced: Coming = { kind: 'replaced', stopsAt: null }
const starting: Coming = { kind: 'starting', stopsAt: null }
const away = (of: Backend, coming: Coming | null = starting) =>
  view(of, { state: 'starting', status: null, coming })
const timed = async <T>(what: Promise<T>): Promise<T & { readonly ms: number }> => {
  const from = performance.now()
  return { ...(await what), ms: performance.now() - from }
}

describe('requests that no machine can take', () => {
  test('wait while the sole machine is replaced in place, whatever they are, and each arrives once', async () => {
    const old = await backend(1)
    const { server, applied } = await raise()
    await applied(server.put('machine', old.machine, view(old)))
    const traffic = load(100)
    await until('it serves', () => old.hits.count > 20)

    // As a replacement in place goes: out of rotation, stopped when nobody uses it, up again at the same address.
    await applied(
      server.put('machine', old.machine, view(old, { routed: false, coming: replaced })),
    )
    await until('nobody uses it', () => server.beats.at(-1)?.draining.length === 0)
    await old.kill()
    const body = 'x'.repeat(300_000)
    const upload = timed(get({ method: 'POST', body }))
    const socket = new WebSocket(`ws://${NET}.1:${HTTP_PORT}`, {
      headers: { host: `shop.${DOMAIN}` },
    })
    const opened = once(socket, 'open')
    await until('they wait', () => traffic.pending() > 50)
    const next = await backend(1)
    const from = performance.now()
    server.put('machine', next.machine, view(next, { coming: null }))
    await until('they are let go', () => traffic.pending() < 10)
    expect(performance.now() - from).toBeLessThan(5000)
    await opened
    socket.send('hello')
    expect(String((await once(socket, 'message'))[0])).toBe(`${next.machine}:hello`)
    socket.terminate()
    expect(await upload).toMatchObject({ status: 200, machine: next.machine })
    expect(next.bytes.count).toBeGreaterThanOrEqual(body.length)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
    // The upload is one more, and nothing was asked twice.
    expect(old.hits.count + next.hits.count).toBe(traffic.sent() + 1)
  })

  test('wait for a machine that crashed and starts again, also when nobody tells of it', async () => {
    const one = await backend(1)
    const { server, applied } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const agent = new Agent({ keepAlive: true })
    await get({ agent })
    server.setReachable(false)
    await one.kill()
    const asked = [
      get({ agent }),
      get({ method: 'POST' }),
      ...Array.from({ length: 20 }, () => get()),
    ]
    // Long enough for all of them to have met nobody.
    await until(
      'it is down',
      async () => (await get({ path: '/x', timeoutMs: 300 }).catch(() => null)) === null,
    )
    const again = await backend(1)
    const from = performance.now()
    const replies = await Promise.all(asked)
    expect(performance.now() - from).toBeLessThan(5000)
    expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 200))
    expect(again.hits.count).toBeGreaterThanOrEqual(22)
    agent.destroy()
  })

  test('that kill what answers them do not do so as often as it comes back', async () => {
    const { server, applied } = await raise()
    let one = await backend(1)
    await applied(server.put('machine', one.machine, view(one)))
    const reply = get({ path: '/?die' })
    let ended = false
    void reply.finally(() => {
      ended = true
    })
    let deaths = 0
    await until('it is answered', async () => {
      if (one.hits.count > 0) {
        deaths += 1
        one = await backend(1)
      }
      return ended
    })
    expect((await reply).status).toBeGreaterThanOrEqual(502)
    // Once, three times again by HAProxy if the machine is back at once, and once after it was waited for.
    expect(deaths).toBeLessThanOrEqual(5)
  })

  test('get an answer at once when nothing is on its way, or no longer', async () => {
    const one = await backend(1)
    const { server, applied } = await raise()
    server.put('app', 'idle', app('idle'))
    await applied(server.put('machine', one.machine, away(one)))
    expect(await timed(get({ host: `idle.${DOMAIN}` }))).toMatchObject({
      status: 503,
      text: 'No machine of this app can answer now.\n',
    })
    const held = timed(get())
    await until('it waits', () =>
      timed(get({ timeoutMs: 200 })).then(
        () => false,
        () => true,
      ),
    )
    server.put('machine', one.machine, view(one, { state: 'failed', coming: null }))
    const reply = await held
    expect([reply.status, reply.headers['retry-after'], reply.text]).toEqual([
      503,
      '1',
      'No machine of this app can answer now.\n',
    ])
    expect(reply.ms).toBeLessThan(5000)
  })

  test('wait for as long as they may and no longer', async () => {
    const one = await backend(1)
    const { server, applied } = await raise({ pace: { holdMs: 2000 } })
    await applied(server.put('machine', one.machine, away(one)))
    const reply = await timed(get())
    expect([reply.status, reply.headers['retry-after'], reply.text]).toEqual([
      503,
      '5',
      'A machine of this app is on its way, but was not ready within 2 seconds.\n',
    ])
    expect(reply.headers['fly-request-id']).toMatch(/-ams$/)
    expect(reply.ms).toBeGreaterThan(1900)
    expect(reply.ms).toBeLessThan(6000)
  })

  test('wait in a bounded number; those beyond it are told at once', async () => {
    const one = await backend(1)
    const { server, applied } = await raise({ maxConnections: 5000 })
    await applied(server.put('machine', one.machine, away(one)))
    const asked = Array.from({ length: HELD_MAX_APP + 100 }, () => get())
    const first = await Promise.race(asked)
    expect(first.status).toBe(503)
    expect(first.text).toMatch(/too many requests wait/)
    const refused: unknown[] = []
    for (const reply of asked) void reply.then((r) => r.status === 503 && refused.push(r))
    await until('all others wait', () => refused.length >= 100)
    await applied(server.put('machine', one.machine, view(one, { coming: null })))
    const replies = await Promise.all(asked)
    expect(replies.filter(({ status }) => status === 200)).toHaveLength(HELD_MAX_APP)
    expect(refused).toHaveLength(100)
  })

  test('wait on over a restart of the edge and a reload of HAProxy', async () => {
    const one = await backend(1)
    const { server, applied, edge, start } = await raise({ slots: 2 })
    await applied(server.put('machine', one.machine, away(one)))
    const ids = Array.from({ length: 10 }, (_, n) => `held-${n}`)
    const asked = ids.map((id) => get({ method: 'POST', path: `/?id=${id}` }))
    const waits = () =>
      get({ timeoutMs: 150 }).then(
        () => false,
        () => true,
      )
    await until('they wait', waits)
    await edge.current.close()
    edge.current = await start()
    await until('the new one knows', () => edge.current.status().applied > 0)
    // More apps than slots: HAProxy reloads.
    for (let n = 0; n < 4; n++) {
      server.put('app', `app-${n}`, app(`app-${n}`))
      const id = (100 + n).toString(16).padStart(14, '0') as Backend['machine']
      await applied(server.put('machine', id, view(one, { app: `app-${n}`, id })))
    }
    await until('they still wait', waits)
    await applied(server.put('machine', one.machine, view(one, { coming: null })))
    const replies = await Promise.all(asked)
    expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 200))
    expect(one.ids.filter((id) => ids.includes(id)).sort()).toEqual(ids)
  })

  test('are held where the machine is far, and go to whichever comes first', async () => {
    const [near, far] = [await backend(1), await backend(2, 'iad')]
    const { server, applied } = await raise()
    server.put('machine', near.machine, away(near, replaced))
    await applied(server.put('machine', far.machine, away(far)))
    const held = get()
    await until('it waits', () =>
      get({ timeoutMs: 150 }).then(
        () => false,
        () => true,
      ),
    )
    server.put('machine', far.machine, view(far, { coming: null }))
    expect((await held).machine).toBe(far.machine)
    // Who holds stands behind the machine that came after it.
    await applied(server.put('machine', near.machine, view(near, { coming: null })))
    await near.kill()
    const replies = await Promise.all(Array.from({ length: 20 }, () => timed(get())))
    expect(replies.map(({ machine }) => machine)).toEqual(replies.map(() => far.machine))
    // HAProxy waits a second before it tries again after a refusal.
    expect(Math.max(...replies.map(({ ms }) => ms))).toBeLessThan(5000)
  })

  test('are sent to a machine that was on its way when the server fell silent, once it answers', async () => {
    const one = await backend(1)
    const { server, applied } = await raise({ pace: { unheardMs: 1500 } })
    await applied(server.put('machine', one.machine, away(one)))
    server.setReachable(false)
    server.drop()
    const from = performance.now()
    await until('the edge goes by what answers', async () => (await get()).status === 200)
    expect(performance.now() - from).toBeGreaterThan(1400)
    expect((await get()).machine).toBe(one.machine)
  })
})
