import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { type RulesetInput, ruleset } from './ruleset.ts'

const input: RulesetInput = {
  networks: [1, 31],
  hosts: [{ ipv4: '10.210.4.1', ipv6: 'fdaa:0:0:1::1' }],
  meshInterface: 'wgtest',
  ownSubnetIpv4: '10.210.4.0/22',
  uplink: 'eth0',
  publicAddress: '198.18.1.1',
  publicPorts: [80, 443],
  nameservers: ['198.18.0.53', 'fdaa::3'],
}

function accepted(rules: string): void {
  execFileSync('nft', ['--check', '-f', '-'], { input: rules })
}

test('nft takes the rules, also those of an empty host', () => {
  accepted(ruleset(input))
  accepted(
    ruleset({
      ...input,
      networks: [],
      hosts: [],
      uplink: null,
      publicAddress: null,
      nameservers: [],
    }),
  )
})

test('the networks are pairs with themselves', () => {
  expect(ruleset(input)).toContain('fdaa:0:1f::/48 . fdaa:0:1f::/48')
})

test('without an uplink nothing is masqueraded', () => {
  expect(ruleset(input)).toContain('masquerade')
  expect(ruleset({ ...input, uplink: null })).not.toContain('masquerade')
})

test('what the edge leads to a machine passes, and machines reach the services of their own edge', () => {
  const rules = ruleset(input)
  expect(rules).toContain('meta l4proto udp ct status dnat accept')
  expect(rules).toContain('ip daddr 198.18.1.1 ct status dnat accept')
})
