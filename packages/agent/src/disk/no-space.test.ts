import { PlatformError } from '@roost/base'
import { expect, test } from 'vitest'
import { isNoSpace } from './no-space.ts'

test('want of room is seen wherever in the chain it was said', () => {
  const said = new Error('write /var/lib/containerd/meta.db: no space left on device')
  expect(
    isNoSpace(new PlatformError('internal', 'containerd Images.Create', { cause: said })),
  ).toBe(true)
  expect(isNoSpace(Object.assign(new Error('write'), { code: 'ENOSPC' }))).toBe(true)
  expect(isNoSpace(Object.assign(new Error('database is full'), { errcode: 13 }))).toBe(true)
  expect(isNoSpace(new PlatformError('disk_full', 'pull'))).toBe(true)
  expect(isNoSpace(new Error('connection refused'))).toBe(false)
  expect(isNoSpace(undefined)).toBe(false)
})
