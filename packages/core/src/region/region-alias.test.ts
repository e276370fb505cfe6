import { expect, test } from 'vitest'
import { KNOWN_REGIONS } from './region.ts'
import { isRegionMeant } from './region-alias.ts'

test('a word means its region, or all of a part of the world', () => {
  const meant = (word: string) =>
    KNOWN_REGIONS.map(({ code }) => code).filter((code) => isRegionMeant(word, code))
  expect(meant('ams')).toEqual(['ams'])
  expect(meant('eu')).toEqual(['ams', 'arn', 'cdg', 'fra', 'lhr', 'mad', 'otp', 'waw'])
  expect(meant('usa')).toEqual(meant('us'))
  expect(meant('us')).toContain('iad')
  expect(meant('us')).not.toContain('yyz')
  expect(meant('na')).toEqual(expect.arrayContaining(['iad', 'yyz', 'qro']))
  expect(meant('any')).toHaveLength(KNOWN_REGIONS.length)
  expect(meant('mars')).toEqual([])
  // Only jnb is in none of the parts.
  const parts = new Set(['apac', 'eu', 'na', 'sa'].flatMap(meant))
  expect(KNOWN_REGIONS.map(({ code }) => code).filter((code) => !parts.has(code))).toEqual(['jnb'])
  expect(isRegionMeant('any', 'garage')).toBe(true)
})
