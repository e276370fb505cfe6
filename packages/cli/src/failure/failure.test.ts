import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { EXIT_CODES } from './failure.ts'

test('every exit code is explained in the docs', () => {
  const page = readFileSync(
    join(import.meta.dirname, '../../../../docs/reference/exit-codes.md'),
    'utf8',
  )
  const missing = Object.entries(EXIT_CODES).filter(
    ([code, meaning]) => !page.includes(`| ${code} | ${meaning} |`),
  )
  expect(missing).toEqual([])
})
