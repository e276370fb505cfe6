import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { VERSION, versionDifference } from './version.ts'

test.each([
  ['0.1.0', '0.1.0', 'fine'],
  ['0.1.0', '0.1.9', 'fine'],
  ['0.2.0', '0.1.0', 'fine'],
  ['0.1.0', '0.2.0', 'newer'],
  ['1.9.0', '1.10.0', 'newer'],
  ['1.0.0', '2.0.0', 'incompatible'],
  ['2.0.0', '1.9.9', 'incompatible'],
  ['0.1.0', 'what?', 'fine'],
  ['0.1.0', '99999999999.1.0', 'fine'],
] as const)('%s sees %s: %s', (ours, theirs, difference) => {
  expect(versionDifference(ours, theirs)).toBe(difference)
})

test('it is the one of the packages', () => {
  for (const name of ['api', 'cli', 'server']) {
    const file = join(import.meta.dirname, '../..', name, 'package.json')
    expect(JSON.parse(readFileSync(file, 'utf8')).version, name).toBe(VERSION)
  }
})
