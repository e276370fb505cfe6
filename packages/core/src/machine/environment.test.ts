import { expect, test } from 'vitest'
import { machineEnvironment } from './environment.ts'
import type { Assignment } from './machine.ts'

const assignment = {
  id: '00000000000001',
  app: 'shop',
  region: 'ams',
  instanceId: '01A',
  privateIpv6: 'fdaa:0:1:1::2',
  primaryRegion: 'iad',
  config: {
    image: 'registry.internal/shop:v1',
    env: { PORT: '8080', FLY_REGION: 'moon', KEY: 'from env' },
    guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
    metadata: {},
  },
} as unknown as Assignment

test('the platform goes before secrets, and secrets before env', () => {
  const known = { secrets: { KEY: 'secret' }, publicIp: '198.18.1.1' }
  expect(machineEnvironment(assignment, known)).toEqual({
    PRIMARY_REGION: 'iad',
    PORT: '8080',
    KEY: 'secret',
    FLY_APP_NAME: 'shop',
    FLY_MACHINE_ID: '00000000000001',
    FLY_ALLOC_ID: '00000000000001',
    FLY_REGION: 'ams',
    FLY_PRIVATE_IP: 'fdaa:0:1:1::2',
    FLY_PUBLIC_IP: '198.18.1.1',
    FLY_IMAGE_REF: 'registry.internal/shop:v1',
    FLY_MACHINE_VERSION: '01A',
    FLY_PROCESS_GROUP: 'app',
    FLY_VM_MEMORY_MB: '256',
  })
})
