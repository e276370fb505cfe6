import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { expect, test } from 'vitest'
import { COMMANDS } from '../command-table.ts'
import { trialTerminal } from '../session/trial-server.ts'
import { manual } from './manual.ts'

const page = () => manual(trialTerminal({ cwd: tmpdir() }).context)

test('the manual page has every command, flag and example', { timeout: 120_000 }, async () => {
  const text = await page()
  for (const { commands } of COMMANDS)
    for (const { words } of commands)
      expect(text).toContain(`.SS roost ${words.filter(Boolean).join(' ')}`)
  expect(text).toContain('\\-\\-max\\-unavailable')
  expect(text).toContain('$ roost deploy')
  expect(text).toContain('.B 130')
})

const groff = spawnSync('groff', ['--version']).status === 0
test.skipIf(!groff)('groff has nothing to complain of', { timeout: 120_000 }, async () => {
  const { stdout, stderr, status } = spawnSync(
    'groff',
    ['-man', '-Tutf8', '-ww', '-b', '-rLL=200n'],
    { input: await page(), encoding: 'utf8' },
  )
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(stdout).toContain('roost')
})
