import { readFile } from 'node:fs/promises'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { makeCertificate, makeSealingKey, ownName } from '../certificate/trial-certificate.ts'
import { DOMAIN, openTrial, until } from '../trial-edge.ts'
import { manyApps, startManyMachines } from '../trial-many.ts'
import { askOnce } from './runtime-api.ts'

/** More than are looked at one by one, many times the slots of a start, and more than a batch of commands holds; a benchmark has thousands. */
const APPS = 300
const OWN_NAMES = 30
const CHANGES = 20
const PORT = 18_700

const trial = await openTrial(7)
const { fakeLink, get, pki, raise } = trial
afterEach(() => trial.cleanUp())
afterAll(() => trial.close())

test('hundreds of apps on one edge: each is served, a change takes effect, and a reload goes through', async () => {
  const machines = await startManyMachines(PORT)
  trial.closers.push(() => machines.close())
  const many = manyApps({ count: APPS, block: 20 + (process.pid % 30), port: PORT })
  const sealing = makeSealingKey()
  const server = fakeLink()
  for (const [kind, id, value] of many.records) server.put(kind, id, value)
  const own = (n: number) => `www-${n}.own.example`
  const certificate = await makeCertificate({
    ...{ ca: join(pki, 'ca.pem'), caKey: join(pki, 'ca.key') },
    names: ['*.own.example'],
  })
  const host = { id: many.machine(0, 0).host, sealingKey: sealing.publicKey }
  for (let n = 0; n < OWN_NAMES; n++) {
    server.put('hostname', own(n), ownName(own(n), many.nameOf(n)))
    server.put('certificate', `${own(n)}/custom`, await certificate.recordOf(own(n), [host]))
  }

  const steps: string[] = []
  let from = performance.now()
  const took = (what: string) => {
    const now = performance.now()
    steps.push(`${what} ${Math.round(now - from)} ms`)
    from = now
  }
  const { applied, edge, files, start } = await raise({ server, sealing })
  await applied(server.revision(), 30_000)
  took('from nothing')

  const agent = new Agent({ keepAlive: true, maxSockets: 32 })
  trial.closers.push(() => agent.destroy())
  const answersOf = async (copies: readonly number[]) => {
    const wrong: string[] = []
    await Promise.all(
      Array.from({ length: APPS }, async (_, n) => {
        const expected = copies.map((copy) => many.addressOf(n, copy))
        const { status, text } = await get({ agent, host: `${many.nameOf(n)}.${DOMAIN}` })
        if (status !== 200 || !expected.includes(text))
          wrong.push(`${many.nameOf(n)}: ${status} ${text}, not ${expected.join(' or ')}`)
      }),
    )
    return wrong
  }
  expect(await answersOf([0, 1])).toEqual([])
  took('all asked')
  const ca = await readFile(join(pki, 'ca.pem'), 'utf8')
  for (const n of [0, OWN_NAMES / 2, OWN_NAMES - 1]) {
    const { status, text } = await until(`a certificate for ${own(n)}`, () =>
      get({ host: own(n), tls: { ca, name: own(n) } }).catch(() => null),
    )
    expect([status, [many.addressOf(n, 0), many.addressOf(n, 1)].includes(text)]).toEqual([
      200,
      true,
    ])
  }

  const effects: number[] = []
  for (let change = 0; change < CHANGES; change++) {
    const n = 7 + change * 13
    const next = many.machine(n, 2)
    const since = performance.now()
    server.put('machine', next.id, next)
    for (const copy of [0, 1]) server.put('machine', many.machine(n, copy).id, null)
    await until(
      'the change takes effect',
      async () =>
        (await get({ agent, host: `${many.nameOf(n)}.${DOMAIN}` })).text === many.addressOf(n, 2),
    )
    effects.push(performance.now() - since)
  }
  effects.sort((a, b) => a - b)
  await applied(server.revision())
  from = performance.now()

  const worker = async () => /^Pid: (\d+)$/m.exec(await askOnce(files.socket, 'show info'))?.[1]
  const before = await worker()
  await edge.current.close()
  // From its own disk alone, with rules that need a reload.
  server.setReachable(false)
  edge.current = await start({ maxConnections: 501 })
  await until('another worker serves', async () => {
    const now = await worker().catch(() => undefined)
    return now !== undefined && now !== before
  })
  took('started again from disk, reloaded')
  expect(await answersOf([0, 1, 2])).toEqual([])
  process.stdout.write(
    `${APPS} apps: ${steps.join(', ')}; change to effect ${Math.round(effects[CHANGES / 2] ?? 0)} ms at the median, ${Math.round(effects.at(-1) ?? 0)} at most\n`,
  )
})
