import { expect, test } from 'vitest'
import { bytesToFree, type DiskSpace, diskState, worstDisk } from './disk.ts'

const GB = 1e9
const space = (given: Partial<DiskSpace> = {}): DiskSpace => ({
  path: '/',
  bytes: 40 * GB,
  freeBytes: 20 * GB,
  inodes: 1000,
  freeInodes: 900,
  ...given,
})

test('a disk is low or full by its share, on large ones by bytes, and by inodes too', () => {
  const of = (given: Partial<DiskSpace>) => diskState(space(given))
  expect(of({})).toBe('ok')
  expect(of({ freeBytes: 3.9 * GB })).toBe('low')
  expect(of({ freeBytes: 0.7 * GB })).toBe('full')
  expect(of({ bytes: 20_000 * GB, freeBytes: 11 * GB })).toBe('ok')
  expect(of({ bytes: 20_000 * GB, freeBytes: 9 * GB })).toBe('low')
  expect(of({ bytes: 20_000 * GB, freeBytes: 0.9 * GB })).toBe('full')
  expect(of({ freeInodes: 99 })).toBe('low')
  expect(of({ freeInodes: 0 })).toBe('full')
  expect(of({ inodes: 0, freeInodes: 0 })).toBe('ok')
  // No flapping at the limit.
  expect(diskState(space({ freeBytes: 4.1 * GB }), 'low')).toBe('low')
  expect(diskState(space({ freeBytes: 5.1 * GB }), 'low')).toBe('ok')
  expect(diskState(space({ freeBytes: 0.9 * GB }), 'full')).toBe('full')
})

test('what must be freed brings a low disk back to ok', () => {
  expect(bytesToFree(space())).toBe(0)
  const low = space({ freeBytes: 1 * GB })
  const after = { ...low, freeBytes: low.freeBytes + bytesToFree(low) }
  expect(diskState(after)).toBe('ok')
  expect(bytesToFree(after)).toBe(0)
  expect(bytesToFree(space({ freeInodes: 1 }))).toBe(Number.POSITIVE_INFINITY)
})

test('the fullest disk speaks for the host', () => {
  expect(worstDisk([])).toBe(null)
  const small = space({ path: '/data', bytes: GB, freeBytes: 0 })
  expect(worstDisk([space(), small])).toEqual({
    path: '/data',
    bytes: GB,
    freeBytes: 0,
    state: 'full',
  })
})
