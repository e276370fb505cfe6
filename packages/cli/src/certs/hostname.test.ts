import { expect, test } from 'vitest'
import { typedHostname } from './hostname.ts'

test.each([
  ['www.example.com', 'www.example.com'],
  ['WWW.Example.COM.', 'www.example.com'],
  ['*.example.com', '*.example.com'],
  ['bücher.example', 'xn--bcher-kva.example'],
])('%s', (typed, name) => {
  expect(typedHostname(typed)).toBe(name)
})

test.each([
  ['https://www.example.com/x', 'roost certs add www.example.com'],
  ['a b', "roost certs add '*.example.com'"],
])('%s is none', (typed, fix) => {
  expect(() => typedHostname(typed)).toThrow(
    expect.objectContaining({ exitCode: 2, fixes: expect.arrayContaining([fix]) }),
  )
})
