import { expect, test } from 'vitest'
import { nameFromFolder, withSuffix } from './suggested-name.ts'

test.each([
  ['/home/me/My App', 'my-app'],
  ['/srv/café_shop', 'cafe-shop'],
  ['/srv/--x--', 'x'],
  ['/srv/日本', 'app'],
  ['/', 'app'],
  [`/srv/${'a'.repeat(80)}`, 'a'.repeat(50)],
])('%s gives %s', (folder, name) => {
  expect(nameFromFolder(folder)).toBe(name)
})

test('a suffix keeps the name within what a host name may have', () => {
  expect(withSuffix('shop', () => 0)).toBe('shop-aaaa')
  expect(withSuffix('x'.repeat(63), () => 0.999)).toHaveLength(63)
})
