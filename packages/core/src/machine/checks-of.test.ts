import { expect, test } from 'vitest'
import { checksOf, uncheckedStatuses } from './checks-of.ts'
import type { MachineCheck, MachineService } from './config.ts'

const check = (change: Partial<MachineCheck> = {}): MachineCheck => ({
  type: 'tcp',
  port: 8080,
  interval_ms: 10_000,
  timeout_ms: 2000,
  grace_period_ms: 0,
  ...change,
})
const service = (change: Partial<MachineService> = {}): MachineService => ({
  protocol: 'tcp',
  internal_port: 8080,
  ports: [],
  checks: [],
  concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
  autostop: 'off',
  autostart: true,
  min_machines_running: 0,
  ...change,
})

test('a tcp service without checks gets one that connects to its port', () => {
  const config = { services: [service()], checks: {} }
  expect(checksOf(config)).toMatchObject([{ name: 'servicecheck-00-tcp-8080', type: 'tcp' }])
})

test('service checks are numbered through all services, others keep their names', () => {
  const config = {
    services: [
      service({ checks: [check({ type: 'http', path: '/up' }), check()] }),
      service({ protocol: 'udp', internal_port: 53 }),
      service({ internal_port: 9090 }),
    ],
    checks: { alive: check({ port: 1 }) },
  }
  expect(checksOf(config).map((c) => c.name)).toEqual([
    'servicecheck-00-http-8080',
    'servicecheck-01-tcp-8080',
    'servicecheck-02-tcp-9090',
    'alive',
  ])
  expect(uncheckedStatuses(checksOf(config), 1).every((c) => c.status === 'critical')).toBe(true)
})
