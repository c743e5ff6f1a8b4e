// {{name}}: the interface example:greeter/greeter, whose one function greets.

export const greeter = {
  greet(name: string): string {
    return `Hello, ${name}!`;
  },
};
