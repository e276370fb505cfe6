import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MachineView } from '@roost/api'
import type { HostId, MachineId, RegionCode } from '@roost/core'
import { tcpKnock } from './probe/prober.ts'
import { app, host, settingsWith, until, webService } from './trial-edge.ts'

/** For tests and benchmarks: thousands of apps with two machines each, all of them answered for by one plain HAProxy. */
export interface ManyApps {
  readonly nameOf: (n: number) => string
  /** All records but those of certificates: `[kind, id, value]`. */
  readonly records: readonly (readonly [string, string, unknown])[]
  /** `copy`: 0 and 1 are there from the start, more may come. */
  machine(n: number, copy: number): MachineView
  /** What a machine answers with: its own address. */
  addressOf(n: number, copy: number): string
}

const EACH_BLOCK = 250

/** `block`: machines are at `127.<block>.…` and in the block behind it, on `port`. */
export function manyApps(options: {
  readonly count: number
  readonly block: number
  readonly port: number
}): ManyApps {
  const { count, block, port } = options
  const nameOf = (n: number) => `many-${n}`
  const addressOf = (n: number, copy: number) => {
    const at = copy * count + n
    const [third, fourth] = [Math.floor(at / EACH_BLOCK), (at % EACH_BLOCK) + 1]
    return `127.${block + Math.floor(third / 256)}.${third % 256}.${fourth}`
  }
  const machine = (n: number, copy: number): MachineView => ({
    id: (0x100000 * (copy + 1) + n).toString(16).padStart(14, '0') as MachineId,
    app: nameOf(n),
    host: 'a'.repeat(14) as HostId,
    region: 'ams' as RegionCode,
    privateIpv4: addressOf(n, copy),
    services: [webService(port)],
    routed: true,
    status: { state: 'started', checks: [] } as never,
  })
  const alone = host('a', 'ams', 1)
  const numbers = Array.from({ length: count }, (_, n) => n)
  return {
    nameOf,
    machine,
    addressOf,
    records: [
      ['settings', 'settings', settingsWith('198.18.2.0/24')],
      ['host', alone.id, alone],
      ...numbers.map((n) => ['app', nameOf(n), app(nameOf(n))] as const),
      ...[0, 1].flatMap((copy) =>
        numbers.map((n) => {
          const made = machine(n, copy)
          return ['machine', made.id, made] as const
        }),
      ),
    ],
  }
}

/** Answers on every address of this machine with the one that was asked. */
export async function startManyMachines(port: number): Promise<{ close(): Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'roost-many-'))
  const file = join(dir, 'machines.cfg')
  await writeFile(
    file,
    `global
  maxconn 4000
defaults
  mode http
  timeout client 60s
  timeout connect 5s
  timeout server 60s
frontend machines
  bind 0.0.0.0:${port}
  http-request return status 200 content-type text/plain lf-string "%[dst]"
`,
  )
  const child = spawn('/usr/sbin/haproxy', ['-db', '-q', '-f', file], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  await until('the machines answer', () =>
    tcpKnock('127.0.0.1', port, AbortSignal.timeout(1000)).then(
      () => true,
      () => false,
    ),
  )
  return {
    async close() {
      child.kill('SIGKILL')
      await ended
      await rm(dir, { recursive: true, force: true })
    },
  }
}
