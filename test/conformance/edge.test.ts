import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { edgePage, SECTIONS } from '../e2e/edge/page.ts'

const ROOT = join(import.meta.dirname, '../..')
const ROWS = SECTIONS.flatMap(({ rows }) => rows)

test('each row has a name of its own, a test or a reason, and says what no other says', () => {
  expect(new Set(ROWS.map(({ id }) => id)).size).toBe(ROWS.length)
  expect(new Set(ROWS.map(({ says }) => says)).size).toBe(ROWS.length)
  for (const { id, verdict, reason, check, elsewhere } of ROWS)
    if (verdict === 'differs') expect(reason, id).toBeTruthy()
    else expect(check ?? elsewhere, id).toBeDefined()
})

test('tests that rows name in other files are there', () => {
  for (const { elsewhere } of ROWS)
    if (elsewhere !== undefined)
      expect(readFileSync(join(ROOT, elsewhere.file), 'utf8')).toContain(elsewhere.test)
})

test('the page of the reference is that of the table', async () => {
  await expect(edgePage()).toMatchFileSnapshot(join(ROOT, 'docs/reference/edge.md'))
})
