import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { openTrial, until } from '../trial-edge.ts'
import { startCrowd } from './trial-crowd.ts'

const trial = await openTrial(3)
const { backend, get, load, raise, view } = trial
afterEach(() => trial.cleanUp())
afterAll(() => trial.close())

const crowd = (size: number, path = '/?ms=40') =>
  startCrowd(size, async (agent) => {
    const { status, text } = await get({ agent, path })
    return status === 200 ? null : `${status} ${text}`
  })

describe('limits of machines', () => {
  test('the own region serves alone below its soft limit, the next one takes the excess, and lets go of it', async () => {
    const [near, far, further] = [
      await backend(1),
      await backend(2, 'iad'),
      await backend(3, 'syd'),
    ]
    const { server, applied } = await raise()
    const limits = { soft: 8, hard: 12 }
    server.put('machine', far.machine, view(far, limits))
    server.put('machine', further.machine, view(further, limits))
    await applied(server.put('machine', near.machine, view(near, limits)))
    await until('its checks found it', async () => (await get()).machine === near.machine)

    const few = crowd(6)
    await until('they were answered', () => few.done() > 100)
    expect([far.hits.count, further.hits.count]).toEqual([0, 0])

    const from = performance.now()
    const more = crowd(6)
    await until('the next region helps', () => far.hits.count > 0)
    process.stdout.write(`overflow after ${Math.round(performance.now() - from)} ms\n`)
    await until('it shares the work', () => far.hits.count > 100)
    // Twelve fit below the soft limits of two regions.
    expect(further.hits.count).toBe(0)
    expect(near.busy.most).toBeLessThanOrEqual(12)

    await more.stop()
    await until('it is left alone again', async () => {
      const before = far.hits.count
      const done = few.done()
      await until('more was answered', () => few.done() > done + 100)
      return far.hits.count === before
    })
    await few.stop()
    expect([...few.failures, ...more.failures]).toEqual([])
  })

  test('what all regions are full of stays at home, and goes far once there is room', async () => {
    const [near, far] = [await backend(1), await backend(2, 'iad')]
    const { server, applied, told, atWork } = await raise()
    // Its own edge has filled it.
    atWork.set('iad', { [far.machine]: 30 })
    server.put('machine', far.machine, view(far, { soft: 4 }))
    await applied(server.put('machine', near.machine, view(near, { soft: 4 })))
    await until('its checks found it', async () => (await get()).machine === near.machine)
    // Edges ask each other once a second.
    await until('that was heard', () => told.has('iad'))
    const many = crowd(10)
    await until('they were answered', () => many.done() > 150)
    expect(far.hits.count).toBe(0)
    atWork.set('iad', {})
    await until('the next region helps', () => far.hits.count > 20)
    await many.stop()
    expect(many.failures).toEqual([])
  })

  test('what nobody has room for waits in line, and is told to come again after a while', async () => {
    const one = await backend(1)
    const { server, applied } = await raise({ pace: { queueMs: 1000 } })
    await applied(server.put('machine', one.machine, view(one, { soft: 1, hard: 1 })))
    const long = get({ path: '/?ms=2500' })
    await until('it is at work', () => one.busy.now === 1)
    const from = performance.now()
    const late = await get()
    expect([late.status, late.headers['retry-after']]).toEqual([503, '1'])
    expect(performance.now() - from).toBeGreaterThan(900)
    expect((await long).status).toBe(200)
    // Who waits for less gets its turn.
    const turns = await Promise.all(Array.from({ length: 8 }, () => get({ path: '/?ms=50' })))
    expect(turns.map(({ status }) => status)).toEqual(turns.map(() => 200))
    expect(one.busy.most).toBe(1)
  })

  test('limits change and regions come and go under load, and no request fails', async () => {
    const [near, far] = [await backend(1), await backend(2, 'iad')]
    const { server, applied } = await raise()
    server.put('machine', far.machine, view(far))
    await applied(server.put('machine', near.machine, view(near)))
    const steady = load(100)
    const many = crowd(10, '/?ms=30')
    const limits = [
      { soft: 2, hard: 30 },
      { soft: 50 },
      { soft: 1, hard: 8 },
      { soft: 5 },
      { soft: 3, hard: 20 },
    ]
    for (const limit of limits) {
      server.put('machine', far.machine, view(far, limit))
      await applied(server.put('machine', near.machine, view(near, limit)))
      const done = many.done()
      await until('more was answered', () => many.done() > done + 100, 20_000)
    }
    // The far one leaves while it is used, and comes back.
    await until('it is used', () => far.busy.now > 0)
    await applied(server.put('machine', far.machine, view(far, { routed: false })))
    await until('nobody uses it', () => server.beats.at(-1)?.draining.length === 0)
    const hits = far.hits.count
    await applied(server.put('machine', far.machine, view(far, { soft: 3, hard: 20 })))
    await until('it is used again', () => far.hits.count > hits)
    // And the own region dies while both serve.
    await near.kill()
    const done = many.done()
    await until('the far one serves alone', () => many.done() > done + 100)
    await many.stop()
    await steady.stop()
    const lost = [...steady.failures, ...many.failures]
    // What was on its way to the one that died, and may not be asked twice.
    expect(lost.filter((what) => !/POST|hang up|^\d*[13579]: 502/.test(what))).toEqual([])
    expect(lost.length).toBeLessThan(5)
  })
})
