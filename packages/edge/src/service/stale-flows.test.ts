import type { AppName, HostId, MachineId, RegionCode, Route } from '@roost/core'
import { expect, test } from 'vitest'
import { parseFlows, staleFlows } from './stale-flows.ts'

const TEXT = `udp      17 117 src=198.18.9.9 dst=198.18.1.1 sport=4000 dport=5060 src=10.210.4.2 dst=198.18.9.9 sport=5060 dport=4000 [ASSURED] mark=0 use=1
udp      17 29 src=198.18.9.9 dst=198.18.1.1 sport=4001 dport=5060 [UNREPLIED] src=198.18.1.1 dst=198.18.9.9 sport=5060 dport=4001 mark=0 use=1
udp      17 29 src=198.18.9.9 dst=198.18.1.1 sport=4002 dport=53 src=198.18.1.1 dst=198.18.9.9 sport=53 dport=4002 mark=0 use=1
conntrack v1.4.7 (conntrack-tools): 3 flow entries have been shown.`

const route = (address: string): Route => ({
  key: 'udp',
  app: 'shop' as AppName,
  hostnames: [],
  forceHttps: false,
  concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
  targets: [
    {
      machine: 'm' as MachineId,
      host: 'h' as HostId,
      region: 'ams' as RegionCode,
      address,
      port: 5060,
      rank: 0,
    },
  ],
  coming: [],
  listener: { kind: 'udp', from: 5060, to: 5061 },
})
const stale = (routes: Route[]) =>
  staleFlows(parseFlows(TEXT), routes, '198.18.1.1').map(({ sourcePort }) => sourcePort)

test('a conversation with who serves goes on; all others begin anew, but not those with the host itself', () => {
  expect(stale([route('10.210.4.2')])).toEqual([4001])
  expect(stale([route('10.210.4.3')])).toEqual([4000, 4001])
  expect(stale([])).toEqual([4000])
})
