import { type Agent, request } from 'node:http'
import type { Host } from '@roost/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { raiseEdges, type TrialEdges } from '../certificate/trial-edges.ts'
import { app, type Backend, DOMAIN, openTrial, until } from '../trial-edge.ts'
import { type Crowd, startCrowd } from './trial-crowd.ts'

/** Two edges of a region that tell each other what they have at work, and one machine behind both. */
const HARD = 10
const trial = await openTrial(8)
let edges: TrialEdges
let one: Backend
beforeAll(async () => {
  edges = await raiseEdges({
    net: `127.${190 + (process.pid % 60)}.${process.pid % 250}`,
    port: 19280,
  })
  one = await trial.backend(1)
  edges.server.put('machine', one.machine, trial.view(one, { soft: HARD, hard: HARD }))
  await Promise.all([edges.start('a'), edges.start('b')])
})
afterAll(async () => {
  await edges?.close()
  await trial.cleanUp()
  await trial.close()
})

function get(to: Host, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const asking = request(
      {
        host: to.publicAddress,
        port: edges.httpPort,
        path: '/?ms=50',
        headers: { host: `shop.${DOMAIN}` },
        agent,
        timeout: 10_000,
      },
      (reply) => {
        reply.on('error', reject)
        reply.on('end', () => resolve(reply.statusCode ?? 0)).resume()
      },
    )
    asking.on('timeout', () => asking.destroy(new Error('no reply')))
    asking.on('error', reject)
    asking.end()
  })
}

function crowd(letter: string, size: number): Crowd {
  const to = edges.edges.find((edge) => edge.letter === letter)?.host as Host
  return startCrowd(size, async (agent) => {
    const status = await get(to, agent)
    return status === 200 ? null : `${letter}: ${status}`
  })
}

/** The most at once while so many are answered. */
async function mostDuring(answers: number, crowds: readonly Crowd[]): Promise<number> {
  const done = () => crowds.reduce((sum, one) => sum + one.done(), 0)
  const from = done()
  one.busy.most = one.busy.now
  await until(`${answers} are answered`, () => done() >= from + answers, 30_000)
  return one.busy.most
}
/** Until it was for as long as edges need to tell each other three times; says how much more there was before, and for how long in all. */
async function isKept(when: string, crowds: readonly Crowd[]): Promise<void> {
  let [aboveMs, most] = [0, 0]
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    if (one.busy.now > HARD) aboveMs += now - last
    last = now
    most = Math.max(most, one.busy.now)
  }, 5)
  try {
    await until('it is kept', async () => (await mostDuring(150, crowds)) <= HARD, 15_000)
  } finally {
    clearInterval(timer)
  }
  process.stdout.write(`${when}: above for ${Math.round(aboveMs)} ms, at most ${most}\n`)
}

test('a hard limit holds for two edges together, none of them starves, and who is left alone has all of it', async () => {
  const [a, b] = [crowd('a', 20), crowd('b', 20)]
  await until('both are answered', () => a.done() > 0 && b.done() > 0)
  await isKept('both begin', [a, b])
  const before = [a.done(), b.done()]
  expect(await mostDuring(400, [a, b])).toBe(HARD)
  const [ofA = 0, ofB = 0] = [a, b].map((one, n) => one.done() - (before[n] ?? 0))
  process.stdout.write(`answered by a ${ofA}, by b ${ofB}\n`)
  expect(Math.min(ofA, ofB)).toBeGreaterThan(140)

  // Who asks for little gets its turn beside who asks for much.
  await b.stop()
  const few = crowd('b', 1)
  await isKept('one wants little', [a, few])
  const turns = few.done()
  expect(await mostDuring(250, [a])).toBeLessThanOrEqual(HARD)
  expect(few.done() - turns).toBeGreaterThan(10)
  await few.stop()
  await until('who is left alone has all of it', () => one.busy.now === HARD)
  const again = crowd('b', 20)
  await isKept('a second one begins', [a, again])
  await a.stop()
  await again.stop()
  const failures = [a, b, few, again].flatMap(({ failures }) => failures)
  expect(failures).toEqual([])
})

test('an edge that is started anew or falls silent changes nothing for long', async () => {
  const [a, b] = [crowd('a', 15), crowd('b', 15)]
  await isKept('both begin', [a, b])
  // Another HAProxy takes over: there are more apps than slots.
  const worker = await edges.workerOf('a')
  for (let n = 0; n < 8; n++) {
    const more = { id: `${n + 2}`.padStart(14, '0') as never, app: `more-${n}` }
    edges.server.put('app', more.app, app(more.app))
    edges.server.put('machine', more.id, trial.view(one, more))
  }
  await until('it was reloaded', async () => (await edges.workerOf('a')) !== worker)
  await isKept('reloaded', [a, b])
  expect(await mostDuring(150, [a, b])).toBeLessThanOrEqual(HARD)

  // Its last word was that it wants half.
  const stopped = a.stop()
  await edges.kill('a')
  await stopped
  await until('the other has all of it', () => one.busy.now === HARD)
  await b.stop()
  expect([...a.failures, ...b.failures]).toEqual([])
})
