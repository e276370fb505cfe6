import { expect, test } from 'vitest'
import { builderAddresses, builderLink, builderRules, builderTable } from './builder-network.ts'

test('names fit the kernel, addresses keep away from where clouds answer', () => {
  for (let n = 0; n < 3000; n++) {
    const netns = `installation-with-a-long-name-host${n}-build`
    expect(builderLink(netns).length).toBeLessThanOrEqual(15)
    const { host, inside } = builderAddresses(netns)
    const [, , third, fourth] = host.split('.').map(Number)
    expect(third).toBeGreaterThan(169)
    expect(third).toBeLessThan(255)
    expect((fourth ?? 0) % 4).toBe(1)
    expect(inside).toBe(`169.254.${third}.${(fourth ?? 0) + 1}`)
  }
  expect(builderTable('demo-ams.1-build')).toBe('roost_demo_ams_1_build')
})

test('only services, resolvers and the uplink are open; loopback resolvers are none', () => {
  const reach = {
    services: [{ address: '10.210.4.1', port: 5000 }],
    uplink: 'eth0',
    nameservers: ['127.0.0.53', 'fd00::1', '192.0.2.53'],
  }
  const rules = builderRules('x', reach)
  expect(rules).toContain('elements = { 10.210.4.1 . 5000 }')
  expect(rules).toContain('elements = { 192.0.2.53 }')
  expect(rules).toContain('oifname "eth0" ip daddr != { 10.210.0.0/16, 169.254.0.0/16 } accept')
  expect(builderRules('x', { ...reach, uplink: null })).not.toContain('eth0')
})
