// {{name}}: the interface example:greeter/greeter, whose one function greets.

export const greeter = {
  greet(name) {
    return `Hello, ${name}!`;
  },
};
