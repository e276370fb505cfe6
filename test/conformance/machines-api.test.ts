import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openTrialApi, type TrialApi } from '../../packages/server/src/http/trial-api.ts'
import { BEHAVIOUR_SECTIONS } from './machines-api/behaviour.ts'
import { CONFIG_SECTIONS } from './machines-api/config-keys.ts'
import { OPENAPI_SECTIONS } from './machines-api/openapi-differences.ts'
import { conformancePage } from './machines-api/page.ts'
import { ROUTE_SECTIONS } from './machines-api/routes.ts'

const SECTIONS = [...ROUTE_SECTIONS, ...BEHAVIOUR_SECTIONS, ...CONFIG_SECTIONS, ...OPENAPI_SECTIONS]
const PAGE = fileURLToPath(new URL('../../docs/reference/machines-api.md', import.meta.url))

let api: TrialApi | null = null
beforeEach(() => {
  api = null
})
afterEach(() => api?.close())

describe.each(SECTIONS)('$title', ({ rows }) => {
  test.each(rows)('$says: $verdict', async ({ check, verdict, reason = '' }) => {
    if (verdict === 'differ') expect(reason).not.toBe('')
    expect(reason).not.toContain('ABSENT')
    if (check === undefined) return
    // Many rows only look at our own document.
    if (check.length > 0) api = await openTrialApi()
    await check(api as TrialApi)
  })

  test('says each thing once', () => {
    expect(new Set(rows.map(({ says }) => says)).size).toBe(rows.length)
  })
})

test('the page says what was found here', async () => {
  await expect(conformancePage(SECTIONS)).toMatchFileSnapshot(PAGE)
})
