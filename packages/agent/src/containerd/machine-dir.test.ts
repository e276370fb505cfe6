import type { MachineConfig, MachineId } from '@roost/core'
import { expect, test } from 'vitest'
import { conformanceConfig, conformanceContainer } from '../runtime.conformance.ts'
import { hostsFile, resolvConf } from './machine-dir.ts'

const named = (dns: NonNullable<MachineConfig['dns']>) => ({
  id: '3d8d0000000001' as MachineId,
  hostname: dns.hostname ?? '3d8d0000000001',
  ipv4: '10.210.4.2',
  ipv6: 'fdaa::2',
  config: conformanceConfig({ dns }),
})

test('a machine asks the resolver of its host, or the ones that it names itself', () => {
  expect(resolvConf(['10.210.4.1'])).toBe('nameserver 10.210.4.1\noptions timeout:2 attempts:2\n')
  expect(
    resolvConf(['10.210.4.1'], {
      nameservers: ['9.9.9.9', '2620:fe::fe'],
      searches: ['corp.example', 'example.com'],
      options: [
        { name: 'ndots', value: '2' },
        { name: 'rotate', value: '' },
      ],
    }),
  ).toBe(
    [
      'nameserver 9.9.9.9',
      'nameserver 2620:fe::fe',
      'search corp.example example.com',
      'options timeout:2 attempts:2 ndots:2 rotate',
      '',
    ].join('\n'),
  )
})

test('a machine finds itself under its names, the full one first', () => {
  const own = hostsFile(named({ hostname: 'web', hostname_fqdn: 'web.example.com' }))
  expect(own).toContain('fdaa::2\tweb.example.com web 3d8d0000000001 fly-local-6pn\n')
  expect(hostsFile(named({}))).toContain('fdaa::2\t3d8d0000000001 fly-local-6pn\n')
})

test('containers find each other by name on localhost; what the machine is called itself stays its address', () => {
  const containers = ['app', 'redis', 'Web', 'localhost', 'ip6-allnodes'].map((name) =>
    conformanceContainer({ name, program: 'serves' }),
  )
  const machine = named({ hostname: 'web' })
  const file = hostsFile({ ...machine, config: { ...machine.config, containers } })
  expect(file.split('\n')).toEqual([
    '127.0.0.1\tlocalhost localhost.localdomain app redis',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
    'fdaa::2\tweb 3d8d0000000001 fly-local-6pn',
    '10.210.4.2\tfly-global-services',
    '',
  ])
})
