import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCommand, silentLogger, systemClock } from '@roost/base'
import type { AppName, HostId, MachineId, RegionCode, Route } from '@roost/core'
import { afterEach, expect, test, vi } from 'vitest'
import { type PortForwarder, startPortForwarder } from './forward-ports.ts'

/** Addresses and a table that nobody else has. */
const ADDRESS = '198.18.77.1'
const [SERVES, GONE] = ['10.210.77.3', '10.210.77.2']
const FLOWS = 3000
const dir = mkdtempSync(join(tmpdir(), 'roost-flows-'))
const at = { forwarder: null as PortForwarder | null }
afterEach(async () => {
  await at.forwarder?.stop({ remove: true })
  await runCommand(['conntrack', '-D', '-p', 'udp', '--orig-dst', ADDRESS]).catch(() => {})
  rmSync(dir, { recursive: true })
})

const route: Route = {
  key: 'udp',
  app: 'shop' as AppName,
  hostnames: [],
  forceHttps: false,
  concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
  targets: [
    {
      ...{ machine: 'm' as MachineId, host: 'h' as HostId, region: 'ams' as RegionCode },
      ...{ address: SERVES, port: 5060, rank: 0 },
    },
  ],
  coming: [],
  listener: { kind: 'udp', from: 5060, to: 5060 },
}
async function flows(): Promise<readonly string[]> {
  const { stdout } = await runCommand(['conntrack', '-L', '-p', 'udp', '--orig-dst', ADDRESS])
  return stdout.split('\n').filter((line) => line.startsWith('udp'))
}

test('thousands of conversations with a machine that is gone end together, those with who serves go on', async () => {
  const flow = (port: number, receiver: string) =>
    `-I -p udp -t 120 -s 198.18.77.9 -d ${ADDRESS} --sport ${port} --dport 5060 -r ${receiver} -q 198.18.77.9 --reply-port-src 5060 --reply-port-dst ${port}\n`
  const lines = Array.from({ length: FLOWS }, (_, n) => flow(2000 + n, GONE))
  writeFileSync(join(dir, 'flows'), [flow(1999, SERVES), ...lines].join(''))
  await runCommand(['conntrack', '-R', join(dir, 'flows')])
  expect(await flows()).toHaveLength(1 + FLOWS)
  at.forwarder = startPortForwarder({
    ...{ table: 'roost_trial_flows', address: ADDRESS, httpsPort: null, self: 'h' as HostId },
    ports: { http: 1, https: 2, tcp: 3, tls: 4, pg_tls: 5, passthrough: 6 },
    desired: () => ({ revision: 1, routes: [route] }),
    onApplied: () => {},
    clock: systemClock,
    log: silentLogger,
  })
  // One process for each of them would take several times as long.
  await vi.waitFor(() => expect(at.forwarder?.applied()).toBe(1), 4000)
  const left = await flows()
  expect(left).toHaveLength(1)
  expect(left[0]).toContain('sport=1999')
}, 60_000)
