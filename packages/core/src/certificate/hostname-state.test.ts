import { expect, test } from 'vitest'
import { hostnameState } from './hostname-state.ts'
import { certificate, DAY, hostname } from './trial-certificates.ts'

test('in which state a name is', () => {
  const ordered = certificate()
  const imported = certificate({ source: 'custom' })
  const proven = hostname({ provenAt: 1 })
  expect(hostnameState(hostname(), [], 0)).toBe('pending_validation')
  expect(hostnameState(hostname(), [ordered], 1)).toBe('active')
  expect(hostnameState(hostname(), [imported], 1)).toBe('pending_ownership')
  expect(hostnameState(proven, [imported], 1)).toBe('active')
  expect(hostnameState(proven, [ordered, imported], 91 * DAY)).toBe('expired')
  expect(hostnameState(hostname(), [ordered, imported], 1)).toBe('active')
})
