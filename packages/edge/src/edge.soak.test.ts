import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { HostId } from '@roost/core'
import { afterAll, afterEach, expect, test } from 'vitest'
import { makeCertificate, makeSealingKey, ownName } from './certificate/trial-certificate.ts'
import { slotsOfMark } from './haproxy/render-config.ts'
import { askOnce } from './haproxy/runtime-api.ts'
import { app, type Backend, openTrial, until } from './trial-edge.ts'
import { startLoad } from './trial-load.ts'

/** At least a minute; fewer seconds for a quick look, with as many reloads as fit. */
const SECONDS = Number(process.env['LOAD_SECONDS'] ?? 75)
const RELOADS = Math.max(3, Math.min(20, Math.floor(SECONDS / 3.5)))
const OWN_NAME = 'www.example.com'

const trial = await openTrial(6)
const { NET, HTTP_PORT, HTTPS_PORT, pki, backend, raise, view } = trial
afterEach(() => trial.cleanUp())
afterAll(() => trial.close())

test(
  'machines cycled, limits and certificates changed, slots grown and HAProxy reloaded under load: no request fails, WebSockets live',
  async () => {
    const sealing = makeSealingKey()
    const staying = [await backend(1), await backend(2)]
    const first = await backend(3)
    const far = await backend(4, 'iad')
    const raised = await raise({ slots: 2, maxConnections: 2000, sealing })
    const { server, edge, start, files, config } = raised
    const applied = (revision: number) => raised.applied(revision, 30_000)
    const certificate = async () => {
      const authority = { ca: join(pki, 'ca.pem'), caKey: join(pki, 'ca.key') }
      const made = await makeCertificate({ ...authority, names: [OWN_NAME] })
      const host = { id: config.hostId as HostId, sealingKey: sealing.publicKey }
      const record = await made.recordOf(OWN_NAME, [host])
      server.put('certificate', `${OWN_NAME}/custom`, record)
      return made.fingerprint256
    }
    const info = async () => {
      const text = await askOnce(files.socket, 'show info').catch(() => '')
      return {
        worker: /^Pid: (\d+)$/m.exec(text)?.[1] ?? null,
        slots: slotsOfMark(/^description: (.*)$/m.exec(text)?.[1] ?? '') ?? 0,
      }
    }
    server.put('hostname', OWN_NAME, ownName(OWN_NAME, 'shop'))
    const firstShown = await certificate()
    for (const one of [...staying, first, far]) server.put('machine', one.machine, view(one))
    await applied(server.revision())
    await until('the certificate is installed', async () =>
      (await askOnce(files.socket, 'show ssl cert')).includes(OWN_NAME),
    )

    const before = await info()
    const from = performance.now()
    const over = () => performance.now() - from > SECONDS * 1000
    const load = startLoad({
      ...{ address: `${NET}.1`, port: HTTP_PORT, perSecond: 200, webSockets: 20 },
      ...{ slowUploads: 3, long: 2, longMs: 2000 },
      secure: {
        ...{ port: HTTPS_PORT, name: OWN_NAME, perSecond: 20 },
        ca: await readFile(join(pki, 'ca.pem'), 'utf8'),
      },
    })
    await until('all WebSockets are open', () => {
      const open = load.sockets()
      return open.length === 20 && open.every(({ machine }) => machine !== null)
    })
    const steady = load
      .sockets()
      .filter(({ machine }) => staying.some((s) => s.machine === machine))
    const cycled = new Set<string>()

    /** As a release does it (docs/decisions/0004): the next one serves, then the last leaves, is used by nobody, and ends. */
    async function cycleMachines(): Promise<void> {
      let last = first
      for (let number = 10; !over(); number++) {
        const next = await backend(number)
        await applied(server.put('machine', next.machine, view(next)))
        await until('the new machine is used', () => next.hits.count > 0)
        await leave(last)
        last = next
      }
    }

    async function leave(machine: Backend): Promise<void> {
      cycled.add(machine.machine)
      const revision = server.put('machine', machine.machine, view(machine, { routed: false }))
      const sessions = () => {
        const beat = server.beats.at(-1)
        if (beat === undefined || beat.applied < revision) return null
        return beat.draining.find((d) => d.machine === machine.machine)?.sessions ?? 0
      }
      await until(
        `only WebSockets are left on ${machine.machine}`,
        () => (sessions() ?? Number.POSITIVE_INFINITY) <= machine.webSockets(),
        30_000,
      )
      const ended = machine.shutDown()
      await until(`nobody uses ${machine.machine}`, () => sessions() === 0, 30_000)
      await ended
      await applied(server.put('machine', machine.machine, null))
    }

    let limits = 0
    async function changeLimits(): Promise<void> {
      const choices: readonly { readonly soft: number; readonly hard?: number }[] = [
        { soft: 8, hard: 60 },
        { soft: 20 },
        { soft: 3, hard: 80 },
        { soft: 30, hard: 50 },
      ]
      while (!over()) {
        const choice = choices[limits++ % choices.length]
        for (const one of [...staying, far]) server.put('machine', one.machine, view(one, choice))
        await applied(server.revision())
        const sent = load.sent()
        await until('more was asked', () => load.sent() > sent + 100)
      }
    }

    const certificates = [firstShown]
    async function changeCertificates(): Promise<void> {
      while (!over()) {
        const made = await certificate()
        certificates.push(made)
        await until('the new certificate is shown', () => load.shown.has(made), 30_000)
      }
    }

    const workers = new Set<string | null>([before.worker])
    let apps = 0
    async function reload(): Promise<void> {
      for (let n = 0; n < RELOADS; n++) {
        const due = from + ((n + 0.5) * SECONDS * 1000) / RELOADS
        await until('it is time', () => performance.now() >= due, SECONDS * 1000)
        const { slots } = await info()
        if (n % 3 === 0) {
          // With the one under load, one more than there are slots.
          for (; apps < slots; apps++) {
            server.put('app', `app-${apps}`, app(`app-${apps}`))
            const id = (0x1000 + apps).toString(16).padStart(14, '0') as Backend['machine']
            server.put('machine', id, view(far, { app: `app-${apps}`, id }))
          }
        } else {
          // As an upgrade does: another edge, which wants other rules.
          await edge.current.close()
          edge.current = await start({ maxConnections: 2001 + n })
        }
        workers.add(
          await until(
            `reload ${n + 1}`,
            async () => {
              const { worker } = await info()
              return worker === null || workers.has(worker) ? null : worker
            },
            30_000,
          ),
        )
      }
    }

    await Promise.all([cycleMachines(), changeLimits(), changeCertificates(), reload()])
    await applied(server.revision())
    const open = await until('all WebSockets are open', () => {
      const now = load.sockets()
      return now.length === 20 ? now : null
    })
    await load.stop()
    const after = await info()
    const seconds = Math.round((performance.now() - from) / 1000)
    const kinds = [...load.kinds()].map(([kind, count]) => `${count} ${kind}`).join(', ')
    process.stdout.write(
      `${seconds} s under load: ${load.sent()} requests (${kinds}), ${load.failures.length} failed, slowest quick one ${load.slowestMs()} ms; ` +
        `${workers.size - 1} reloads, slots ${before.slots} → ${after.slots}, ${cycled.size} machines cycled, limits changed ${limits} times, ` +
        `${certificates.length - 1} certificates changed, ${load.goodbyes.length} WebSockets ended by their app, ${steady.length} open from first to last\n`,
    )
    expect(load.failures).toEqual([])
    expect(seconds).toBeGreaterThanOrEqual(SECONDS)
    expect(workers.size - 1).toBeGreaterThanOrEqual(RELOADS)
    expect(after.slots).toBeGreaterThan(2 * before.slots)
    expect(cycled.size).toBeGreaterThanOrEqual(2)
    expect(limits).toBeGreaterThan(RELOADS)
    expect(load.shown.size).toBeGreaterThanOrEqual(3)
    // Those whose machine stayed are the very same as at the beginning, through all reloads; the others ended by their app's goodbye.
    expect(steady.length).toBeGreaterThan(0)
    for (const socket of steady) expect(open).toContain(socket)
    const known = load.goodbyes.filter((machine) => machine !== null)
    expect(known.filter((machine) => !cycled.has(machine))).toEqual([])
  },
  (SECONDS + 180) * 1000,
)
