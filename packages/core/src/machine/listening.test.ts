import { describe, expect, test } from 'vitest'
import { describeListening, listensOnlyInside } from './listening.ts'

describe('what a person is told', () => {
  test.each([
    [
      ['127.0.0.1:8080'],
      'the program listens on 127.0.0.1:8080, where only itself can reach it: let it listen on 0.0.0.0:8080',
    ],
    [
      ['0.0.0.0:9100', '[::1]:8080'],
      'the program listens on [::1]:8080, where only itself can reach it: let it listen on 0.0.0.0:8080',
    ],
    [
      ['[::]:8080'],
      'the program listens on [::]:8080, but not for connections by IPv4: let it listen on 0.0.0.0:8080',
    ],
    [
      ['0.0.0.0:3000'],
      'nothing listens on port 8080, but on 0.0.0.0:3000: set internal_port = 3000 in fly.toml, or let the program listen on 0.0.0.0:8080',
    ],
    [
      ['127.0.0.1:5000', '[::]:3000', '0.0.0.0:1', '0.0.0.0:2', '0.0.0.0:4'],
      'nothing listens on port 8080, but on [::]:3000, 0.0.0.0:1, 0.0.0.0:2 and 1 more: set internal_port = 3000 in fly.toml, or let the program listen on 0.0.0.0:8080',
    ],
    [
      ['127.0.0.1:3000'],
      'nothing listens on port 8080, but on 127.0.0.1:3000, where only the program itself can reach it: let it listen on 0.0.0.0:3000 and set internal_port = 3000 in fly.toml',
    ],
    [[], 'nothing listens on port 8080, nor on any other: let the program listen on 0.0.0.0:8080'],
  ])('%j', (listening, text) => {
    expect(describeListening(8080, listening)).toBe(text)
  })
})

test('only an address of the machine itself, on that very port, is beyond hope', () => {
  expect(listensOnlyInside(8080, ['127.0.0.1:8080', '[::1]:8080'])).toBe(true)
  expect(listensOnlyInside(8080, ['127.0.0.1:8080', '0.0.0.0:8080'])).toBe(false)
  expect(listensOnlyInside(8080, ['127.0.0.1:9229'])).toBe(false)
  expect(listensOnlyInside(8080, [])).toBe(false)
})
