import { expect, test } from 'vitest'
import { planPlayground } from './plan.ts'
import { hostSpecOf } from './state.ts'

test('everything of a playground follows from its name, its network and its regions', () => {
  const plan = planPlayground({ regions: ['ams', 'iad'] })
  expect(plan).toMatchObject({
    name: 'roost',
    domain: 'roost.test',
    wanNetns: 'roost-wan',
    machine: { device: 'roost-wan', address: '198.18.0.1' },
    resolverAddress: '198.18.0.53',
  })
  expect(plan.regions[1]).toEqual({
    code: 'iad',
    number: 2,
    netns: 'roost-iad',
    address: '198.18.2.1',
    client: { netns: 'roost-client-iad', address: '198.18.2.100' },
    clientNetwork: '198.18.2.0/24',
  })
})

test('names that the kernel bounds fit, and sockets too', () => {
  const regions = Array.from({ length: 16 }, (_, n) => `region${String(n).padStart(5, '0')}x`)
  const plan = planPlayground({ name: 'elevenchars', network: '198.19', regions })
  expect(plan.machine.device.length).toBeLessThanOrEqual(15)
  for (const region of plan.regions) {
    const spec = hostSpecOf(plan, region)
    expect(spec.wireguard.interface.length).toBeLessThanOrEqual(15)
    expect(`${spec.runDir}/agent/machines/00000000000000/longest-name.sock`.length).toBeLessThan(
      107,
    )
  }
})

test('only the first host runs the server and builds', () => {
  const plan = planPlayground({ regions: ['ams', 'iad', 'syd'] })
  const specs = plan.regions.map((region) => hostSpecOf(plan, region))
  expect(specs.map((spec) => spec.server !== null)).toEqual([true, false, false])
  expect(specs.map((spec) => spec.builder)).toEqual([true, false, false])
  expect(specs[0]?.server?.clientNetworks).toContainEqual({ cidr: '198.18.3.0/24', region: 'syd' })
})

test.each([
  [{ regions: [] }, 'at least one region'],
  [{ regions: ['ams', 'ams'] }, 'ams is named twice'],
  [{ regions: ['AMS'] }, '"AMS" is no region code'],
  [{ regions: ['wan'] }, 'no region may be called wan'],
  [{ regions: Array.from({ length: 17 }, (_, n) => `r${n}`) }, 'at most 16 regions'],
  [{ name: 'my-playground', regions: ['ams'] }, '"my-playground" is no name'],
  [{ name: 'host', regions: ['ams'] }, 'what a real host is called'],
  [{ network: '10.0.0', regions: ['ams'] }, 'first half of an IPv4 address'],
  [{ network: '10.300', regions: ['ams'] }, 'first half of an IPv4 address'],
  [{ domain: 'nodots', regions: ['ams'] }, '"nodots" is no domain'],
])('%j is refused', (options, why) => {
  expect(() => planPlayground(options)).toThrow(why)
})
