import { expect, test } from 'vitest'
import type { MachineId } from '../id.ts'
import { holdOfRelease } from './hold-of-release.ts'
import type { Release } from './release.ts'

const release = {
  app: 'shop',
  version: 7,
  status: 'starting',
  deadline: Date.UTC(2026, 0, 1),
  plan: [{ source: 'old', target: 'new' }],
  undo: [{ source: 'new', target: 'back' }],
} as unknown as Release

test('a release at work keeps leases from its machines, by name, and from no others', () => {
  const text = 'machine lease currently held by release 7 of shop, expires at 2026-01-01T00:00:00Z'
  expect(holdOfRelease(release, 'old' as MachineId)).toBe(text)
  expect(holdOfRelease(release, 'new' as MachineId)).toBe(text)
  expect(holdOfRelease(release, 'back' as MachineId)).toBe(text)
  expect(holdOfRelease(release, 'other' as MachineId)).toBeNull()
  for (const status of ['pending', 'draining', 'complete', 'failed'] as const)
    expect(holdOfRelease({ ...release, status }, 'old' as MachineId)).toBeNull()
})
