import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cacheKey, cacheKeysOf } from './replay-cache.ts'

test('a kept replay is for the host that it was asked for, and for nobody else', () => {
  expect(cacheKey('shop.test/a/*', 'shop.test')).toBe('shop.test/a/*')
  expect(cacheKey('SHOP.test:8080/a', 'shop.test')).toBe('shop.test/a')
  expect(cacheKey('/a/*', 'shop.test')).toBe('shop.test/a/*')
  expect(cacheKey('shop.test', 'shop.test')).toBe('shop.test/*')
  expect(cacheKey('bank.test/*', 'shop.test')).toBeNull()
  expect(cacheKey('/a b', 'shop.test')).toBeNull()
})

test('the longest path counts', () => {
  expect(cacheKeysOf('h', '/a/b')).toEqual(['h/a/b', 'h/a/b/*', 'h/a/*', 'h/*'])
  expect(cacheKeysOf('h', '/')).toEqual(['h/', 'h//*', 'h/*'])
})

test('what is kept below a path is found for all paths below it', () => {
  const part = fc.stringMatching(/^[a-z0-9]{1,5}$/)
  fc.assert(
    fc.property(
      fc.array(part, { maxLength: 5 }),
      fc.array(part, { minLength: 1, maxLength: 5 }),
      (above, below) => {
        const folder = above.map((one) => `/${one}`).join('')
        const key = cacheKey(`h${folder}/*`, 'h') ?? ''
        expect(cacheKeysOf('h', `${folder}/${below.join('/')}`)).toContain(key)
        expect(cacheKeysOf('h', `/0other${folder}`)).not.toContain(above.length > 0 ? key : '')
      },
    ),
  )
})
